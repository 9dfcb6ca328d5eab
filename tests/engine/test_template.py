"""The template: what is stated of which confidence, how it is joined, and that it never says more than it was told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weak_captions import any_text, clip, sane_clips

from peav.data.manifest import Row
from peav.engine.checks import Case, check, repetition
from peav.engine.clip import Clip, Sample, WeakCaption
from peav.engine.prompts import load_prompt
from peav.engine.sources import NOTHING, Sources
from peav.engine.template import Fallback, Template, fuse, write
from peav.engine.words import words
from peav.types import Modality

PROMPT = load_prompt("rewrite_v1")


def written(of: Clip) -> dict[Modality, str]:
    return write(Sources.of(of))


def through(stage: Template, *clips: Clip) -> None:
    """What the engine does with a stage."""
    asked = [one for one in clips if stage.request(one) is not None]
    for place, answer in stage([Sample(one) for one in asked]):
        stage.apply(asked[place], answer.value)


def test_high_and_medium_captions_are_stated_and_low_ones_beside_them_are_not() -> None:
    of = clip([("a cat meows", "low"), ("rain falls", "medium"), ("a dog barks", "high")])
    assert written(of) == {"audio": "A dog barks and rain falls."}


def test_of_low_captions_alone_the_best_one_is_stated() -> None:
    assert written(clip([("a cat meows", "low"), ("a dog barks", "low")])) == {"audio": "A cat meows."}
    weak = [
        WeakCaption("a cat meows", "audio", "one", score=0.1, confidence="low"),
        WeakCaption("a dog barks", "audio", "other", score=0.2, confidence="low"),
    ]
    assert fuse(weak) == ["a dog barks"]


def test_a_caption_without_confidence_is_stated() -> None:
    assert written(clip(["a dog barks", ("a cat meows", "low")])) == {"audio": "A dog barks."}


@pytest.mark.parametrize(
    ("weak", "stated"),
    [
        (["a dog barking", "A dog barks."], "A dog barking."),
        (["a dog barks", "a dog barking loudly"], "A dog barking loudly."),
        ([("dog barking", "medium"), ("a dog barks", "high")], "A dog barks."),
        (["a dog barks", "a cat meows", "dogs are barking"], "A dog barks and a cat meows."),
        (
            ["a dog barking and rain falling", "dog, bark and thunder"],
            "A dog barking and rain falling and the sound of thunder.",
        ),
        (["Dog and bark"], "The sound of dog and bark."),
        (["waves or surf"], "The sound of waves or surf."),
        (["a black and white dog runs", "a black car stops"], "A black and white dog runs and a black car stops."),
        (["silence", "a dog barks"], "A dog barks."),
        (["a silent film plays with a piano", "a dog barks"], "A silent film plays with a piano and a dog barks."),
        (["silence"], "The sound of silence."),
        (["Rain", "Dog"], "The sound of rain and the sound of dog."),
        (["This is an audio recording of a dog barking. It is loud!"], "A dog barking."),
        (["a bell", "a dog", "a cat", "a cow"], "A bell, a dog and a cat."),
    ],
)
def test_captions_of_one_kind_are_merged(weak: list[str], stated: str) -> None:
    assert written(clip(weak))["audio"] == stated


def test_sound_and_pictures_are_joined_and_a_caption_of_both_goes_before() -> None:
    of = clip(["A dog barks."], ["a train passes"])
    assert written(of) == {
        "audio": "A dog barks.",
        "video": "A train passes.",
        "audio_video": "A dog barks while a train passes.",
    }
    assert (
        written(clip(["a dog barks"], ["a train passing by"]))["audio_video"] == "A dog barks and a train passing by."
    )
    of = clip(["a dog barks"], ["a train passes"], ["a dog barks at a passing train"])
    assert written(of)["audio_video"] == "A dog barks at a passing train."


def test_a_person_speaks_where_there_is_a_transcript_unless_a_voice_is_stated() -> None:
    assert written(clip(["rain falls"], transcript="hello there"))["audio"] == "Rain falls and a person speaks."
    assert written(clip(["a woman talks"], transcript="hello there"))["audio"] == "A woman talks."
    assert written(clip(transcript="hello there")) == {"audio": "A person speaks."}
    assert written(clip(["rain falls"], transcript=" ?! "))["audio"] == "Rain falls."


def test_a_kind_of_which_nothing_is_known_is_left_out() -> None:
    assert set(written(clip(["a dog barks"]))) == {"audio"}
    assert set(written(clip(["", "?!"], ["a train passes"]))) == {"video"}
    assert set(written(clip(audio_video=["a dog barks at a train"]))) == {"audio_video"}


def test_a_row_has_captions_of_its_own_streams_alone() -> None:
    of = clip(["a dog barks"], ["a train passes"])
    of.row = Row("sound", audio_path=of.row.audio_path)
    assert written(of) == {"audio": "A dog barks."}


def test_a_clip_of_which_nothing_is_known_is_filtered_and_any_other_says_who_wrote_it() -> None:
    known, unknown = clip(["a dog barks"]), clip([""])
    through(Template("rewrite"), known, unknown)
    assert (known.captions, known.provenance) == ({"audio": "A dog barks."}, {"audio": "template"})
    assert unknown.filtered == NOTHING
    assert not unknown.captions


def test_the_fallback_takes_refused_clips_alone_and_marks_them() -> None:
    good, bad = clip(["a dog barks"]), clip(["a dog barks"])
    for one in (good, bad):
        one.captions, one.provenance = {"audio": "A hound."}, {"audio": "rewrite_v1@0, a model"}
    bad.rejected = ["length: audio caption: 2 words"]
    through(Fallback("fallback"), good, bad)
    assert (good.captions, good.fallback) == ({"audio": "A hound."}, False)
    assert (bad.captions, bad.fallback, bad.provenance) == ({"audio": "A dog barks."}, True, {"audio": "template"})
    assert bad.rejected
    good.rejected = ["repeated: its audio caption stands for too many clips"]
    through(Fallback("fallback"), good)
    assert (good.captions, good.fallback) == (bad.captions, True)
    assert good.rejected


@pytest.mark.slow
@given(sane_clips)
def test_what_it_writes_of_sane_captions_passes_all_checks(of: Clip) -> None:
    of.captions = written(of)
    assert set(of.captions) == set(Sources.of(of).kinds)
    # Captioners that all say the same words end up in one caption, which then says them again.
    said = Case("audio_video", " and ".join(weak.text for weak in of.weak.values()), Sources.of(of), PROMPT)
    assert check(of, PROMPT) == [] or repetition(said)
    assert written(of) == of.captions


@given(st.lists(st.tuples(any_text, st.sampled_from(["low", "high", None])), max_size=4), any_text)
def test_no_text_breaks_it_and_no_caption_is_empty(weak: list[tuple[str, None]], transcript: str) -> None:
    of = clip(weak, weak, weak, transcript)
    assert all(words(text) and text.encode() and "\n" not in text for text in written(of).values())
