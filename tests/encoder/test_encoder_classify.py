"""Which of some labels fits an input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from media.make import tone, write_audio

from peav.encoder import TEXT_PAIR, Encoder
from peav.errors import LabelError
from peav.inference.classification import Classification
from peav.media import NotMediaError, NoVideoStreamError
from peav.types import DecodeFailure, Modality

WORDS = {"dog": "a dog barking", "car": "a red car", "rain": "rain on a roof"}


def naive(encoder: Encoder, embedding: np.ndarray, space: Modality) -> dict[str, float]:
    """A softmax over the logits of the input's embedding and each label's text."""
    logits = [encoder.logits(embedding, encoder.encode_text(text, space), TEXT_PAIR[space]) for text in WORDS.values()]
    values = np.exp(np.array(logits, np.float64))
    return dict(zip(WORDS, (values / values.sum()).tolist(), strict=True))


def shares_of(one: Classification) -> dict[str, float]:
    return dict(zip(one.labels, one.probabilities.tolist(), strict=True))


def test_labels_are_ranked_by_the_softmax_of_their_logits(
    encoder: Encoder, files: dict[str, Path], tmp_path: Path
) -> None:
    long = write_audio(tmp_path / "long.wav", tone(5.0, seed=6))
    paths = [files["both"], files["sound"], files["silent"], long]
    found = encoder.classify(paths, WORDS, window=2.0)
    assert [one.space for one in found] == ["audio_video", "audio", "video", "audio"]
    assert [(one.index, one.source) for one in found] == [(i, str(path)) for i, path in enumerate(paths)]
    for one, embedding in zip(found, encoder.encode(paths, window=2.0), strict=True):
        wanted = naive(encoder, embedding, one.space)
        assert shares_of(one) == pytest.approx(wanted, abs=1e-3)
        assert list(one.probabilities) == sorted(one.probabilities, reverse=True)
        assert one.label == max(wanted, key=lambda label: wanted[label])
        assert one.to_dict()["labels"][0] == pytest.approx(
            {"label": one.label, "probability": one.probabilities[0], "logit": one.logits[0]}
        )


def test_a_space_judges_by_its_stream_alone(encoder: Encoder, files: dict[str, Path]) -> None:
    (one,) = encoder.classify(files["both"], WORDS, "audio")
    assert one.space == "audio"
    assert shares_of(one) == pytest.approx(naive(encoder, encoder.encode_audio(files["both"]), "audio"), abs=1e-3)
    with pytest.raises(NoVideoStreamError, match=r"sound\.wav"):
        encoder.classify(files["sound"], WORDS, "video")


@pytest.mark.slow
def test_a_bad_file_is_an_error_or_in_a_stream_one_result(
    encoder: Encoder, files: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "bad.wav").write_text("hello")
    paths = [files["sound"], tmp_path / "bad.wav", files["silent"]]
    for isolate in (False, True):
        good, bad, silent = encoder.classify_stream(paths, ["dog", "red_car"], isolate=isolate)
        assert isinstance(bad, DecodeFailure)
        assert isinstance(bad.error, NotMediaError)
        assert isinstance(good, Classification)
        assert isinstance(silent, Classification)
        assert sorted(good.labels) == ["dog", "red_car"]
    with pytest.raises(NotMediaError):
        encoder.classify(paths, ["dog", "red_car"])


@pytest.mark.parametrize("labels", [[], ["dog", "dog"], ["dog", " "], [3], {"dog": ""}])
def test_labels_that_say_nothing_are_refused(encoder: Encoder, files: dict[str, Path], labels: list[str]) -> None:
    with pytest.raises(LabelError):
        encoder.classify(files["sound"], labels)
    with pytest.raises(LabelError):  # at once, not with the first result
        encoder.classify_stream(files["sound"], labels)
