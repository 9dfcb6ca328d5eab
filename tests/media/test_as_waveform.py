"""Promises for arrays and tensors: the same samples as the same sound in a file, whatever their type and shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from media.make import tone, write_audio

from peav.media import (
    NonFiniteError,
    Resampler,
    UnsupportedInputError,
    ZeroLengthError,
    as_waveform,
    load_audio,
    pad_to_hop,
)


@pytest.mark.parametrize(("rate", "channels"), [(48000, 1), (44100, 1), (44100, 2), (48000, 6), (8000, 1), (96000, 2)])
def test_an_array_equals_the_file_of_the_same_samples(rate: int, channels: int, tmp_path: Path) -> None:
    samples = tone(0.7, rate, channels)
    path = write_audio(tmp_path / "a.wav", samples, rate, codec="pcm_f32le")
    assert np.array_equal(as_waveform(samples, rate), load_audio(path))


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(1, 5000), rate=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000, 96000, 12345]))
def test_length_is_rescaled_and_rounded_up_as_ffmpeg_does(samples: int, rate: int) -> None:
    assert len(as_waveform(np.zeros(samples), rate)) == -(-samples * 48000 // rate)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_tensor_equals_the_array(channels: int) -> None:
    samples = tone(0.2, 44100, channels)
    expected = as_waveform(samples, 44100)
    assert np.array_equal(as_waveform(torch.from_numpy(samples), 44100), expected)
    assert np.array_equal(as_waveform(torch.from_numpy(samples).requires_grad_(), 44100), expected)
    assert np.array_equal(as_waveform(samples.astype(np.float64), 44100), expected)


def test_one_channel_with_or_without_its_axis_is_the_same() -> None:
    samples = tone(0.1)
    assert np.array_equal(as_waveform(samples, 48000), as_waveform(samples[0], 48000))


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([-32768, 0, 16384], np.int16), [-1, 0, 0.5]),
        (np.array([-(2**31), 2**30], np.int32), [-1, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1, 0, 0.5]),
        (np.array([0.25, -2.0], np.float16), [0.25, -2.0]),
        (torch.tensor([0.25, -2.0], dtype=torch.bfloat16), [0.25, -2.0]),
        (torch.tensor([-32768, 16384], dtype=torch.int16), [-1, 0.5]),
        ([0.5, 0.25], [0.5, 0.25]),
    ],
)
def test_integers_are_scaled_and_floats_kept(array: Any, expected: list[float]) -> None:
    assert as_waveform(array, 48000).tolist() == expected


def test_the_result_is_a_copy() -> None:
    samples = np.zeros(10, np.float32)
    as_waveform(samples, 48000)[:] = 1
    assert not samples.any()


@pytest.mark.parametrize(
    ("array", "rate", "error", "says"),
    [
        (np.empty(0), 48000, ZeroLengthError, "empty"),
        (np.empty((2, 0)), 48000, ZeroLengthError, "empty"),
        (np.array([0.0, np.nan]), 48000, NonFiniteError, "1 samples"),
        (np.array([np.inf, -np.inf]), 48000, NonFiniteError, "2 samples"),
        (np.zeros((48000, 2)), 48000, UnsupportedInputError, "channels first"),
        (np.zeros((1, 2, 3)), 48000, UnsupportedInputError, "shape"),
        (np.array([100, -100]), 48000, UnsupportedInputError, "int64 have no full scale"),
        ([100, -100], 48000, UnsupportedInputError, "int64 have no full scale"),
        (np.array(0.0), 48000, UnsupportedInputError, "shape"),
        (np.zeros(9, complex), 48000, UnsupportedInputError, "complex"),
        (np.array(["a"]), 48000, UnsupportedInputError, "dtype"),
        (np.zeros(9, bool), 48000, UnsupportedInputError, "bool"),
        (np.zeros(9), 0, UnsupportedInputError, "sampling_rate=0"),
        (np.zeros(9), -1, UnsupportedInputError, "sampling_rate=-1"),
        (np.zeros(9), 44100.5, UnsupportedInputError, "sampling_rate=44100.5"),
        (np.zeros(9), float("nan"), UnsupportedInputError, "sampling_rate=nan"),
        (np.zeros(9), None, UnsupportedInputError, "sampling_rate=None"),
    ],
)
def test_what_is_no_audio_is_a_typed_error(array: Any, rate: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        as_waveform(array, rate)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8000, 44100, 48000])
@pytest.mark.parametrize("block", [1, 77, 50_000])
def test_blocks_of_any_size_are_resampled_as_the_whole(rate: int, block: int) -> None:
    samples = np.random.default_rng(0).standard_normal((2, rate // 8)).astype(np.float32)
    resampler = Resampler(rate)
    parts = [resampler.push(samples[:, at : at + block]) for at in range(0, samples.shape[1], block)]
    assert np.array_equal(np.concatenate([*parts, resampler.finish()]), as_waveform(samples, rate))


def test_a_stream_keeps_its_channels() -> None:
    resampler = Resampler(16000)
    assert resampler.finish().shape == (0,)
    resampler.push(np.zeros((2, 10)))
    with pytest.raises(UnsupportedInputError, match="1 channels after 2"):
        resampler.push(np.zeros(10))


@given(length=st.integers(1, 5000), hop=st.integers(1, 700))
def test_padding_mirrors_the_end_up_to_a_whole_hop(length: int, hop: int) -> None:
    waveform = np.arange(length, dtype=np.float32)
    padded = pad_to_hop(waveform, hop)
    assert len(padded) % hop == 0
    assert 0 <= len(padded) - length < hop
    period = max(2 * (length - 1), 1)
    assert all(padded[i] == min(i % period, period - i % period) for i in range(len(padded))) or length == 1
