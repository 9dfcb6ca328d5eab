"""Bad files and bad arguments are typed errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from media.make import bad_files, good_files, truncated_files
from random_model import random_encoder

import peav
from peav.detector import Detector
from peav.encoder import Encoder
from peav.media import (
    MediaError,
    NoAudioStreamError,
    NonFiniteError,
    NoVideoStreamError,
    TruncatedMediaWarning,
    UnsupportedInputError,
    ZeroLengthError,
)
from peav.search.embed import embed_files
from peav.types import DecodeFailure


def test_missing_streams_are_typed_errors_that_name_the_file(encoder: Encoder, files: dict[str, Path]) -> None:
    with pytest.raises(NoAudioStreamError, match=r"silent\.mp4"):
        encoder.encode_audio(files["silent"])
    with pytest.raises(NoVideoStreamError, match=r"sound\.wav"):
        encoder.encode_audio_video([files["both"], files["sound"]])


@pytest.mark.slow
def test_every_bad_file_gives_its_error_and_the_others_go_on(encoder: Encoder, tmp_path: Path) -> None:
    bad = bad_files(tmp_path / "bad")
    good = good_files(tmp_path / "good")
    assert len(bad) >= 15
    inputs = [path for pair in zip((path for path, _ in bad.values()), good, strict=False) for path in pair]
    results = {result.index: result for result in encoder.stream(inputs, batch_size=8)}
    assert sorted(results) == list(range(len(inputs)))
    errors = dict(bad.values())
    for index, path in enumerate(inputs):
        result = results[index]
        if path in errors:
            assert isinstance(result, DecodeFailure), path
            assert type(result.error) is errors[path], path
            assert path.name in str(result.error)
            with pytest.raises(errors[path]):
                encoder.encode(path)
        else:
            assert np.isfinite(result.embedding).all(), path


@pytest.mark.slow
def test_an_embedding_that_is_not_finite_is_an_error_that_names_its_input(
    files: dict[str, Path], tmp_path: Path
) -> None:
    broken = random_encoder()
    with torch.no_grad():
        for head in ("audio", "text_audio"):
            for weight in broken.model.heads[head].parameters():
                weight.mul_(3e38)
    inputs = [files["longer"], files["sound"], files["silent"]]
    for options in ({}, {"isolate": True}, {"batch_size": 1}):
        results = list(broken.stream(inputs, ["audio", "video"], window=1.0, **options))
        kinds = {i: [type(r) for r in results if r.index == i] for i in range(3)}
        assert kinds[0] == kinds[1] == [DecodeFailure]
        assert DecodeFailure not in kinds[2]
        assert len(kinds[2]) == 1
        error = next(r.error for r in results if r.index == 1)
        assert isinstance(error, NonFiniteError)
        assert "sound.wav: its embedding at 0 s is not finite" in str(error)
    for encode in (broken.encode, broken.encode_audio):
        with pytest.raises(NonFiniteError, match=r"sound\.wav"):
            encode(files["sound"])
    assert np.isfinite(broken.encode(files["silent"])).all()
    with pytest.raises(ValueError, match="not finite"):
        broken.encode_text("a dog barks", "audio")
    summary = embed_files(broken, inputs, tmp_path / "library.parquet", window=30.0)
    assert (summary["embedded"], summary["failures"]) == (1, {"NonFiniteError": 2})


@pytest.mark.slow
def test_a_truncated_file_gives_what_it_holds_with_a_warning(encoder: Encoder, tmp_path: Path) -> None:
    for name, path in truncated_files(tmp_path).items():
        with pytest.warns(TruncatedMediaWarning, match=name.replace(".", r"\.")):
            assert np.isfinite(encoder.encode(path)).all()


@pytest.mark.parametrize(
    ("source", "rate", "error"),
    [
        (np.array([0.0, np.nan, 0.1], np.float32), 48000, NonFiniteError),
        (np.zeros(0, np.float32), 48000, ZeroLengthError),
        (np.zeros(100, np.float32), None, UnsupportedInputError),
        (np.zeros((2, 3, 4, 5, 6), np.float32), 48000, UnsupportedInputError),
        (np.zeros((4, 8, 8, 3), np.float32), 48000, UnsupportedInputError),
        (np.zeros((0, 8, 8, 3), np.uint8), 48000, ZeroLengthError),
        ([0.1, 0.2, 0.3], 48000, UnsupportedInputError),
        ({"sound": 3}, 48000, MediaError),
        (12, 48000, UnsupportedInputError),
        (b"", None, ZeroLengthError),
    ],
)
def test_bad_inputs_are_typed_errors(
    encoder: Encoder, source: object, rate: int | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        encoder.encode(source, sampling_rate=rate)


def test_bad_arguments_say_what_is_possible(encoder: Encoder, files: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="audio_video"):
        encoder.encode_text("rain", "speech")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="a text is a string, not int"):
        encoder.encode_text([3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="a_v"):
        encoder.logits(np.zeros(3), np.zeros(3), "audio-video")
    with pytest.raises(ValueError, match="window"):
        encoder.encode(files["sound"], window=0)
    with pytest.raises(ValueError, match="batch_size"):
        encoder.encode(files["sound"], batch_size=0)


def test_a_checkpoint_without_tokenizer_says_so(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        Encoder(encoder.model).encode_text("rain")


def test_a_misspelt_keyword_names_what_was_called(encoder: Encoder, files: dict[str, Path]) -> None:
    says = r"got an unexpected keyword argument 'batchsize'"
    embedding = ("encode", "encode_audio", "encode_video", "encode_audio_video", "encode_windows", "stream")
    labeling = {"classify": (["dog"],), "classify_stream": (["dog"],)}
    for name in (*embedding, *labeling):
        with pytest.raises(TypeError, match=rf"^Encoder\.{name}\(\) {says}. Did you mean 'batch_size'\?$"):
            getattr(encoder, name)(files["both"], *labeling.get(name, ()), batchsize=3)
    with pytest.raises(TypeError, match=r"^Encoder\.encode\(\) got .* 'text'; it takes batch_size, normalize, "):
        encoder.encode(files["both"], text="rain")  # type: ignore[call-overload]
    own = (Encoder.encode_text, Encoder.logits, Encoder.similarity, peav.load, peav.similarity)
    detecting = (Detector.load, Detector.detect, Detector.scores, Detector.stream, Detector.encode_labels)
    for function in (*own, *detecting):
        with pytest.raises(TypeError, match=rf"^{function.__qualname__}\(\) {says}"):
            function(batchsize=3)  # type: ignore[operator]


def test_batches_of_no_text_are_refused(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="batch_size is at least 1, not 0"):
        encoder.encode_text("rain", batch_size=0)
