"""What every captioner does: an answer is a caption under its name, with its model; a bad clip fails alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from peav.data.manifest import Row
from peav.engine.captioners.base import Captioner
from peav.engine.clip import Answer, Clip, Sample, WeakCaption
from peav.errors import RecipeError
from peav.features.decode import Decoded

SOUND = np.zeros(48000, np.float32)
PICTURES = np.zeros((16, 336, 336, 3), np.uint8)


@dataclass
class Length(Captioner):
    """Says how long the sound is; chokes on an odd number of samples."""

    model_name = "length 1"

    def caption(self, sample: Sample) -> Answer:
        assert sample.media is not None
        assert sample.media.waveform is not None
        if len(sample.media.waveform) % 2:
            raise ArithmeticError("odd")
        return Answer(f"{len(sample.media.waveform)} samples")


def sample(waveform: np.ndarray | None = SOUND, frames: np.ndarray | None = None) -> Sample:
    return Sample(Clip("a", Row("a")), Decoded(waveform, frames))


def test_an_answer_becomes_a_weak_caption_under_the_captioners_name_with_its_model_and_kind() -> None:
    one = Length("loud")
    clip = Clip("a", Row("a"))
    one.apply(clip, "48000 samples")
    assert clip.weak == {"loud": WeakCaption("48000 samples", "audio", "length 1", None)}


def test_a_clip_that_fails_costs_its_own_answer_and_one_without_the_stream_has_nothing_to_say() -> None:
    answers = dict(Length("loud")([sample(), sample(SOUND[1:]), sample(None, PICTURES)]))
    assert answers[0] == Answer("48000 samples")
    assert isinstance(answers[1], ArithmeticError)
    assert answers[2] == Answer("")


def test_the_kind_says_which_streams_are_decoded_and_is_part_of_the_identity() -> None:
    assert Length("a").needs == {"audio"}
    assert Length("a", kind="video").needs == {"video"}
    both = Length("a", kind="audio_video")
    assert both.needs == {"audio", "video"}
    assert both.lacks(sample())
    assert not both.lacks(sample(SOUND, PICTURES))
    assert both.identity() == {"class": "Length", "name": "a", "kind": "audio_video"}


def test_a_kind_that_is_none_is_named() -> None:
    with pytest.raises(RecipeError, match=r"captioner a: kind 'sound': give one of audio, video, audio_video"):
        Length("a", kind="sound")  # type: ignore[arg-type]
