"""Promises of audio decoding: the samples asked for, of any format, from any kind of source, in bounded memory."""

from __future__ import annotations

import gc
import math
import tracemalloc
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media.make import patch, scramble, tone, truncated_files, write_audio, write_float_wav, write_video

from peav.media import (
    DamagedMediaWarning,
    TruncatedMediaWarning,
    Window,
    WindowError,
    iter_audio,
    load_audio,
    windows,
)

PCM = ["wav48", "wav44", "wav8", "flac44", "surround"]
LOSSY = {"mp3": 1e-6, "opus": 2e-3, "m4a": 2e-2}  # AAC fills bands with noise of its own, which no two runs share


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Twelve seconds in several formats: long enough for `load_audio` to seek."""
    folder = tmp_path_factory.mktemp("audio")
    return {
        "wav48": write_audio(folder / "48.wav", tone(12.0)),
        "wav44": write_audio(folder / "44.wav", tone(12.0, 44100, 2), 44100),
        "wav8": write_audio(folder / "8.wav", tone(12.0, 8000), 8000),
        "flac44": write_audio(folder / "44.flac", tone(12.0, 44100), 44100, codec="flac"),
        "surround": write_audio(folder / "6.wav", tone(12.0, 48000, 6)),
        "mp3": write_audio(folder / "a.mp3", tone(12.0, 44100), 44100, codec="libmp3lame"),
        "opus": write_audio(folder / "a.opus", tone(12.0), codec="libopus"),
        "m4a": write_audio(folder / "a.m4a", tone(12.0), codec="aac"),
        "mkv": write_audio(folder / "a.mkv", tone(12.0)),
    }


@pytest.fixture(scope="module")
def whole(library: dict[str, Path]) -> dict[str, np.ndarray]:
    return {name: load_audio(path) for name, path in library.items()}


def test_48_khz_mono_pcm_comes_out_bit_for_bit(tmp_path: Path) -> None:
    samples = tone(1.0)[0]
    assert np.array_equal(load_audio(write_float_wav(tmp_path / "a.wav", samples)), samples)


@pytest.mark.parametrize("name", ["wav48", "wav44", "wav8", "flac44", "surround", "mp3"])
def test_length_is_the_duration_to_the_sample(name: str, whole: dict[str, np.ndarray]) -> None:
    assert whole[name].dtype == np.float32
    assert whole[name].shape == (12 * 48000,)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 96000])
def test_resampling_keeps_a_sine_in_place(rate: int, tmp_path: Path) -> None:
    sine = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    heard = load_audio(write_float_wav(tmp_path / "a.wav", sine.astype(np.float32), rate))
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)
    assert len(heard) == 48000
    assert np.abs(heard - expected)[1000:-1000].max() < 1e-3


def test_stereo_is_mixed_by_ffmpegs_rule_of_equal_power(tmp_path: Path) -> None:
    stereo = tone(0.5, channels=2)
    heard = load_audio(write_audio(tmp_path / "a.wav", stereo, codec="pcm_f32le"))
    assert np.abs(heard - stereo.sum(0) * math.sqrt(0.5)).max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", PCM)
@settings(max_examples=12, deadline=None)
@given(start=st.floats(0, 11.9), length=st.floats(0.01, 8))
def test_a_part_of_a_lossless_file_equals_the_slice_of_the_whole(
    name: str, start: float, length: float, library: dict[str, Path], whole: dict[str, np.ndarray]
) -> None:
    part = load_audio(library[name], start=start, end=start + length)
    assert np.array_equal(part, whole[name][round(start * 48000) : round((start + length) * 48000)])


@pytest.mark.parametrize("name", list(LOSSY))
@pytest.mark.parametrize("start", [0.0, 3.21, 5.0, 9.876])
def test_a_part_of_a_lossy_file_is_close_to_the_slice_of_the_whole(
    name: str, start: float, library: dict[str, Path], whole: dict[str, np.ndarray]
) -> None:
    part = load_audio(library[name], start=start, end=start + 1.5)
    expected = whole[name][round(start * 48000) : round((start + 1.5) * 48000)]
    assert part.shape == expected.shape
    assert np.abs(part - expected).max() <= LOSSY[name]


def test_a_part_of_a_matroska_file_is_within_a_millisecond_of_its_place(
    library: dict[str, Path], whole: dict[str, np.ndarray]
) -> None:
    part = load_audio(library["mkv"], start=7.0007, end=8.0)
    at = round(7.0007 * 48000)
    found = [shift for shift in range(-48, 49) if np.array_equal(part[:9000], whole["mkv"][at + shift :][:9000])]
    assert len(found) == 1


def test_an_end_past_the_end_is_cropped_and_a_start_past_it_is_an_error(library: dict[str, Path]) -> None:
    assert len(load_audio(library["wav48"], start=11.0, end=99.0)) == 48000
    with pytest.raises(WindowError, match=r"48\.wav: start=12\.5 is past the end"):
        load_audio(library["wav48"], start=12.5)


@pytest.mark.parametrize(
    ("start", "end"), [(-1.0, None), (math.nan, None), (math.inf, None), (1.0, 1.0), (2.0, 1.0), (0.0, math.nan)]
)
def test_a_senseless_span_is_an_error(start: float, end: float | None, library: dict[str, Path]) -> None:
    with pytest.raises(WindowError):
        load_audio(library["wav48"], start=start, end=end)


@pytest.mark.parametrize("name", ["wav44", "mp3", "opus", "m4a", "mkv"])
def test_windows_of_one_pass_join_to_the_whole(
    name: str, library: dict[str, Path], whole: dict[str, np.ndarray]
) -> None:
    pieces = list(iter_audio(library[name], 2.5))
    assert np.array_equal(np.concatenate([waveform for _, waveform in pieces]), whole[name])
    assert all(left.end == right.start for (left, _), (right, _) in pairwise(pieces))
    assert all(len(waveform) == round(window.end * 48000) - round(window.start * 48000) for window, waveform in pieces)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(spans=st.lists(st.tuples(st.floats(0, 15), st.floats(0.001, 6)), min_size=1, max_size=5))
def test_listed_windows_may_overlap_leave_gaps_and_pass_the_end(
    spans: list[tuple[float, float]], library: dict[str, Path], whole: dict[str, np.ndarray]
) -> None:
    asked = sorted(Window(start, start + length) for start, length in spans)
    given_out = list(iter_audio(library["wav48"], asked))
    expected = [whole["wav48"][round(w.start * 48000) : round(w.end * 48000)] for w in asked]
    expected = [waveform for waveform in expected if len(waveform)]
    assert len(given_out) == len(expected)
    assert all(np.array_equal(waveform, want) for (_, waveform), want in zip(given_out, expected, strict=True))


def test_cutting_by_length_agrees_with_windows_of_the_duration(tmp_path: Path) -> None:
    for seconds in (0.5, 3.0, 6.0, 6.4, 7.5):
        path = write_audio(tmp_path / "a.wav", tone(seconds))
        assert [window for window, _ in iter_audio(path, 3.0)] == windows(seconds, 3.0)


def test_path_string_bytes_and_file_object_give_the_same(library: dict[str, Path]) -> None:
    path = library["mp3"]
    expected = load_audio(path, start=5.0, end=6.0)
    with path.open("rb") as file:
        file.read(1000)  # where the file object stands does not matter
        for source in (str(path), path.read_bytes(), file):
            assert np.array_equal(load_audio(source, start=5.0, end=6.0), expected)


def test_two_passes_over_one_file_object_can_be_interleaved(library: dict[str, Path]) -> None:
    with library["wav44"].open("rb") as file:
        for (_, one), (_, two) in zip(iter_audio(file, 3.0), iter_audio(file, 3.0), strict=True):
            assert np.array_equal(one, two)


@pytest.mark.parametrize("name", ["wav44", "mp3", "opus", "m4a"])
def test_decoding_twice_gives_the_same_bits(name: str, library: dict[str, Path], whole: dict[str, np.ndarray]) -> None:
    assert np.array_equal(load_audio(library[name]), whole[name])


def test_sound_that_starts_late_is_preceded_by_silence(tmp_path: Path) -> None:
    frames = np.zeros((50, 32, 32, 3), np.uint8)
    path = write_video(
        tmp_path / "a.mkv", frames, sound=np.full((1, 24000), 0.5, np.float32), sound_codec="pcm_s16le", sound_delay=1.0
    )
    heard = load_audio(path)
    assert len(heard) == 48000 + 24000
    assert not heard[:47900].any()
    assert (heard[48100:] > 0.4).all()
    assert np.array_equal(load_audio(path, start=1.25), heard[60000:])


@pytest.mark.filterwarnings("ignore::peav.media.DamagedMediaWarning")  # the last packet, cut in two
@pytest.mark.parametrize("name", ["cut.wav", "cut.flac", "cut.mp3", "cut.opus", "cut.mkv", "cut.webm", "cut_video.mp4"])
def test_a_truncated_file_gives_what_it_holds_and_says_how_much(name: str, tmp_path: Path) -> None:
    path = truncated_files(tmp_path)[name]
    with pytest.warns(TruncatedMediaWarning, match=rf"{name}: truncated: it holds \d\.\d\d s of") as record:
        heard = load_audio(path)
    text = next(str(item.message) for item in record if item.category is TruncatedMediaWarning)
    assert f"holds {len(heard) / 48000:.2f} s" in text
    assert 0.9 < len(heard) / 48000 < 2.5
    assert "4.0" in text or name == "cut.opus"


def test_a_window_inside_what_a_truncated_file_holds_gives_no_warning(tmp_path: Path) -> None:
    path = truncated_files(tmp_path)["cut.wav"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_audio(path, end=1.0)) == 48000


@pytest.mark.filterwarnings("ignore::peav.media.TruncatedMediaWarning")  # MP3 counts its frames
@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp3", "libmp3lame"), ("a.flac", "flac"), ("a.m4a", "aac"), ("a.opus", "libopus")]
)
def test_damage_in_the_middle_costs_a_part_and_is_told(name: str, codec: str, tmp_path: Path) -> None:
    path = scramble(write_audio(tmp_path / name, tone(6.0), codec=codec), 0.45, 0.5)
    with pytest.warns(DamagedMediaWarning, match=name):
        heard = load_audio(path)
    assert 5.0 < len(heard) / 48000 < 6.1


def test_a_stream_that_ends_before_the_picture_is_not_called_truncated(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", np.zeros((100, 32, 32, 3), np.uint8), sound=tone(1.0))
    patch(path, b"DURATION", b"DURATIOX")  # without it the header only knows the length of the whole file
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_audio(path)) >= 48000


@pytest.mark.slow
def test_a_long_file_passes_through_in_the_memory_of_one_window(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "long.flac", np.tile(tone(60.0, 16000), (1, 20)), 16000, codec="flac")
    gc.collect()
    tracemalloc.start()
    total = sum(len(waveform) for _, waveform in iter_audio(path, 30.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 1200 * 48000
    assert peak < 40e6  # 30 s are 5.8 MB
