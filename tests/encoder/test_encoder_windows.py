"""Long files: windows, their times and their mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from media.make import pictures, tone, write_audio, write_video
from random_model import close

from peav.encoder import Encoder
from peav.media import (
    UnsupportedInputError,
    load_audio,
)
from peav.types import MODALITIES


def test_windows_of_a_long_file_have_its_times(encoder: Encoder, tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.mp4", pictures(130), sound=tone(5.2))
    windows = encoder.encode_windows([path], MODALITIES, window=2.0)
    assert [(w.start, w.end) for w in windows[:-1]] == [(0.0, 2.0), (2.0, 4.0)]
    assert windows[-1].start == 4.0
    assert windows[-1].end == pytest.approx(5.2, abs=0.05)
    assert {w.modality for w in windows} == {"audio_video"}
    for window in windows[:-1]:
        part = load_audio(path, start=window.start, end=window.end)
        assert close(window.embeddings["audio"], encoder.encode_audio(part, sampling_rate=48000), 1e-3)


def test_a_long_file_is_the_mean_of_its_windows_by_duration(encoder: Encoder, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "long.wav", tone(3.5))
    windows = encoder.encode_windows(path, window=2.0)
    seconds = np.array([w.end - w.start for w in windows])
    assert np.allclose(seconds, [2.0, 1.5])
    mean = (seconds[:, None] * np.stack([w.embedding for w in windows])).sum(0) / seconds.sum()
    assert close(encoder.encode_audio(path, window=2.0), mean)


def test_window_none_takes_the_whole_file(encoder: Encoder, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "long.wav", tone(3.5))
    (window,) = encoder.encode_windows(path, window=None)
    assert (window.start, window.end) == (0.0, 3.5)
    assert not close(window.embedding, encoder.encode_audio(path, window=2.0), 1e-3)


def test_more_than_a_tower_takes_is_an_error_that_names_the_fix(encoder: Encoder) -> None:
    with pytest.raises(UnsupportedInputError, match=r"window=30\.0"):
        encoder.encode_audio(np.zeros(48000 * 401, np.float32), sampling_rate=48000, window=None)


def test_a_stream_that_ends_early_leaves_the_other_alone(encoder: Encoder, tmp_path: Path) -> None:
    path = write_video(tmp_path / "short_sound.mp4", pictures(100), sound=tone(1.0))
    windows = encoder.encode_windows([path], MODALITIES, window=2.0)
    assert [w.modality for w in windows] == ["audio_video", "video"]
    assert [sorted(w.embeddings) for w in windows] == [sorted(MODALITIES), ["video"]]
    assert close(encoder.encode_audio_video(path, window=2.0), windows[0].embeddings["audio_video"])
    # Not a mean of two spaces:
    assert np.array_equal(encoder.encode(path, window=2.0), encoder.encode_audio_video(path, window=2.0))


def test_a_stream_gives_unit_length_where_it_is_asked_to(encoder: Encoder, files: dict[str, Path]) -> None:
    plain, unit = (
        encoder.encode_windows(files["both"], MODALITIES, normalize=normalize) for normalize in (False, True)
    )
    for space in MODALITIES:
        row = plain[0].embeddings[space]
        assert close(unit[0].embeddings[space], row / np.linalg.norm(row))
