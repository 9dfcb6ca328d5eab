"""The same promises on real recordings."""

from __future__ import annotations

import warnings
from pathlib import Path

import av
import numpy as np
import pytest

from peav.media import iter_audio, load_audio, load_frames, probe


def some(folder: Path, count: int) -> list[Path]:
    files = sorted(path for path in folder.glob("*/*/*") if path.suffix in (".mp4", ".ogg", ".opus"))
    return files[:: max(1, len(files) // count)]


@pytest.mark.slow
def test_recordings_decode_without_a_warning_and_keep_their_duration(shared: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in some(shared / "data", 40):
            assert len(load_audio(path)) / 48000 == pytest.approx(probe(path).duration, abs=0.06), path.name


@pytest.mark.slow
def test_parts_of_recordings_equal_the_slices_of_the_whole(shared: Path) -> None:
    for path in some(shared / "data", 12):
        whole = load_audio(path)
        start = 0.6 * len(whole) / 48000
        part = load_audio(path, start=start, end=start + 1)
        expected = whole[round(start * 48000) : round((start + 1) * 48000)]
        assert part.shape == expected.shape
        assert np.abs(part - expected).max() < 0.02, path.name
        assert np.array_equal(np.concatenate([waveform for _, waveform in iter_audio(path, 2.0)]), whole)


@pytest.mark.slow
def test_sixteen_frames_of_recordings_are_the_plain_loops(shared: Path) -> None:
    for path in sorted((shared / "data").glob("*/video/*.mp4"))[::60]:
        with av.open(str(path)) as container:
            plain = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        index = [int(i * (len(plain) - 1) / 15) for i in range(16)]
        assert np.array_equal(load_frames(path, num_frames=16).pixels, np.stack(plain)[index]), path.name
