"""Clips with weak captions, for tests of what is written from them."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from peav.data.manifest import Row
from peav.engine.clip import Clip, Confidence, WeakCaption
from peav.types import Modality

Weak = str | tuple[str, Confidence | None]


def clip(
    audio: list[Weak] | tuple[()] = (),
    video: list[Weak] | tuple[()] = (),
    audio_video: list[Weak] | tuple[()] = (),
    transcript: str | None = None,
    identity: str = "street#0.0-10.0",
) -> Clip:
    """A clip of a file with sound and pictures, and what captioners say of it: texts, some with a confidence."""
    given: dict[Modality, list[Weak] | tuple[()]] = {"audio": audio, "video": video, "audio_video": audio_video}
    weak = {}
    for kind, captions in given.items():
        for number, one in enumerate(captions):
            text, confidence = (one, None) if isinstance(one, str) else one
            weak[f"{kind}{number}"] = WeakCaption(text, kind, "model 1", confidence=confidence)
    row = Row(identity, Path("/street.mp4"), Path("/street.mp4"), 0.0, 10.0)
    return Clip(identity, row, weak, transcript=transcript)


_WHO = ["a dog", "two dogs", "a man", "a woman", "children", "a small engine", "rain", "a bell", "the wind", "a crowd"]
_DOES = ["is heard", "makes a noise", "goes on for a while", "fades out", "is close by", "gets louder", "is there"]
_DOING = ["barking", "talking", "singing a song", "running", "falling on a roof", "ringing", "cheering", "humming"]
_WHERE = ["", "in the distance", "on a street", "in a large room", "near the camera", "with music in the background"]
_LABELS = [
    "Dog",
    "rain",
    "Speech",
    "Church bell",
    "dog barking",
    "Inside, small room",
    "Car horn, honking",
]

_clauses = st.builds(
    lambda *parts: " ".join(filter(None, parts)),
    st.sampled_from(_WHO),
    st.sampled_from(_DOES + _DOING),
    st.sampled_from(_WHERE),
)
captions = st.one_of(
    st.sampled_from(_LABELS),
    _clauses,
    _clauses.map(lambda text: f"{text[0].upper()}{text[1:]}."),
    st.builds(lambda first, second: f"{first} and {second}", _clauses, _clauses),
    st.builds(lambda first, second: f"This is a video of {first}. {second}.", _clauses, _clauses),
)
_weak = st.lists(st.tuples(captions, st.sampled_from(["low", "medium", "high", None])), max_size=4)
sane_clips = st.builds(clip, _weak, _weak, _weak, st.sampled_from([None, "", "good morning", '"wait", he said, “now”']))
any_text = st.text(st.characters(), max_size=80) | st.lists(
    st.sampled_from(["dog", '"', "“", ".", "0.93", "<|im_end|>", "\n", "\ud800", "ß", "雨", "a", "the", "é", "?!"]),
    max_size=60,
).map(" ".join)
"""Any characters, lone surrogates too, and pieces of which checks look for some."""
