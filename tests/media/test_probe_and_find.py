"""Promises of probing, finding files and cutting durations into windows."""

from __future__ import annotations

import math
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from media.make import good_files, pictures, tone, write_audio, write_video

from peav.media import MediaWarning, MissingFileError, Window, WindowError, find_media, probe, resize_frames, windows
from peav.media.find import media_files
from peav.media.windows import SHORTEST_TAIL


def test_probe_tells_what_a_movie_holds(tmp_path: Path) -> None:
    info = probe(write_video(tmp_path / "a.mp4", pictures(50, 48, 64), 25.0, sound=tone(2.0, channels=2)))
    assert (info.has_audio, info.has_video) == (True, True)
    assert (info.audio_codec, info.sampling_rate, info.channels) == ("aac", 48000, 2)
    assert (info.video_codec, info.fps, info.width, info.height, info.rotation) == ("h264", 25.0, 64, 48, 0)
    assert info.duration == pytest.approx(2.0, abs=0.03)


def test_probe_tells_what_a_sound_file_holds(tmp_path: Path) -> None:
    info = probe(write_audio(tmp_path / "a.wav", tone(1.5, 8000), 8000))
    assert (info.has_audio, info.has_video, info.sampling_rate, info.channels) == (True, False, 8000, 1)
    assert (info.duration, info.width, info.fps) == (1.5, None, None)


def test_duration_is_measured_where_the_header_says_too_little(tmp_path: Path) -> None:
    uneven = write_video(tmp_path / "a.mp4", pictures(8), times=[0, 0.04, 0.1, 0.5, 0.52, 0.9, 1.4, 1.48])
    assert probe(uneven).duration >= 1.48
    assert probe(write_audio(tmp_path / "a.aac", tone(3.0), codec="aac")).duration == pytest.approx(3.0, abs=0.06)


def test_folders_are_walked_and_filtered(tmp_path: Path) -> None:
    for name in ("b.WAV", "a/c.mp4", "a/deep/d.opus", "a/notes.txt", ".hidden.wav", ".git/e.wav", "a/f.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = find_media([tmp_path, tmp_path / "b.WAV", tmp_path / "a" / "f.jpg"])
    assert found == [tmp_path / name for name in ("a/c.mp4", "a/deep/d.opus", "b.WAV", "a/f.jpg")]
    assert find_media([]) == []


def test_files_come_in_the_order_in_which_they_are_given_and_a_folders_sorted(tmp_path: Path) -> None:
    for name in ("z.wav", "m/b.wav", "m/a/c.wav", "a.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    asked = [tmp_path / name for name in ("z.wav", "nowhere.wav", "m", "m/b.wav", "a.wav", "z.wav")]
    wanted = [tmp_path / name for name in ("z.wav", "nowhere.wav", "m/a/c.wav", "m/b.wav", "a.wav")]
    assert media_files(asked) == wanted
    assert find_media(path for path in asked if path.exists()) == [path for path in wanted if path.exists()]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    for name in ("real/a.wav", "real/deep/b.wav", "elsewhere/c.wav", "elsewhere/.hidden/d.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    asked = tmp_path / "asked"
    asked.mkdir()
    (asked / "one").symlink_to(tmp_path / "real")
    (asked / "two").symlink_to(tmp_path / "real")
    (asked / "other").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (asked / ".unseen").symlink_to(tmp_path / "elsewhere" / ".hidden")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real")
    (tmp_path / "elsewhere" / "back").symlink_to(asked)
    (asked / "self.wav").symlink_to(tmp_path / "real" / "a.wav")  # a link to a file is a file
    found = find_media([asked])
    assert found == [
        asked / "one" / "a.wav",
        asked / "one" / "deep" / "b.wav",
        asked / "other" / "c.wav",
        asked / "self.wav",
    ]
    assert find_media([asked, tmp_path / "real"]) == [
        *(asked / "other" / "c.wav", asked / "self.wav"),
        *(tmp_path / "real" / "a.wav", tmp_path / "real" / "deep" / "b.wav"),
    ]
    assert find_media([asked / "two"]) == [asked / "two" / "a.wav", asked / "two" / "deep" / "b.wav"]


@pytest.mark.parametrize("suffix", ["insv", "mjpeg", "MPGA", "m2t", "qt", "3gpp", "divx", "hevc", "m2v", "rmvb"])
def test_less_common_suffixes_are_media(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a.{suffix}").touch()
    assert find_media([tmp_path]) == [tmp_path / f"a.{suffix}"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.warns(MediaWarning, match="closed: cannot be read"):
        assert find_media([tmp_path]) == []


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"nowhere: no such file or folder"):
        find_media([tmp_path / "nowhere"])


def test_every_good_file_is_found(tmp_path: Path) -> None:
    assert find_media([tmp_path / "g"] if (files := good_files(tmp_path / "g")) else []) == sorted(files)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(duration=st.floats(0.01, 20000), length=st.floats(1, 600))
def test_windows_touch_and_cover_the_duration(duration: float, length: float) -> None:
    cut = windows(duration, length)
    assert cut[0].start == 0
    assert cut[-1].end == duration
    assert all(left.end == right.start for left, right in pairwise(cut))
    assert all(window.duration == pytest.approx(length) for window in cut[:-1])
    assert 0 < cut[-1].duration <= length + SHORTEST_TAIL + 1e-6
    assert len(cut) == 1 or cut[-1].duration > SHORTEST_TAIL - 1e-6


def test_windows_of_thirty_seconds() -> None:
    assert windows(75.0) == [Window(0.0, 30.0), Window(30.0, 60.0), Window(60.0, 75.0)]
    assert windows(60.5) == [Window(0.0, 30.0), Window(30.0, 60.5)]
    assert windows(0.02) == [Window(0.0, 0.02)]


@pytest.mark.parametrize(("duration", "length"), [(0, 30), (-1, 30), (math.nan, 30), (math.inf, 30), (9, 0), (9, 0.1)])
def test_senseless_windows_are_errors(duration: float, length: float) -> None:
    with pytest.raises(WindowError):
        windows(duration, length)


frames = st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.just(3)).flatmap(
    lambda shape: arrays(np.uint8, shape)
)


@settings(max_examples=30, deadline=None)
@given(pixels=frames, size=st.integers(1, 48))
def test_resize_is_torchs_antialiased_bilinear_rounded(pixels: np.ndarray, size: int) -> None:
    planes = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))
    expected = torch.nn.functional.interpolate(planes, (size, size), mode="bilinear", antialias=True)
    expected = expected.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    assert np.array_equal(resize_frames(pixels, size), expected)


@pytest.mark.parametrize("shape", [(9, 300), (300, 9), (101, 64)])
@pytest.mark.parametrize("band", [1, 500, 3000])
def test_frames_that_take_several_bands_are_resized_alike(
    shape: tuple[int, int], band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), np.uint8)
    expected = resize_frames(pixels, 32)
    monkeypatch.setattr("peav.media.resize.BAND", band)
    assert np.array_equal(resize_frames(pixels, 32), expected)


@pytest.mark.parametrize(("shape", "size"), [((2, 40, 70, 3), 16), ((1, 20, 30, 3), 33), ((1, 90, 33, 3), 24)])
def test_resize_is_within_one_of_torchs_own_uint8_path(shape: tuple[int, ...], size: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    planes = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    native = torch.nn.functional.interpolate(planes, (size, size), mode="bilinear", antialias=True)
    difference = resize_frames(pixels, size).astype(int) - native.permute(0, 2, 3, 1).numpy()
    assert np.abs(difference).max() <= 1


def test_resize_rejects_what_is_no_frame() -> None:
    for wrong in (np.zeros((2, 9, 9), np.uint8), np.zeros((1, 9, 9, 4), np.uint8), np.zeros((1, 9, 9, 3), np.float32)):
        with pytest.raises(ValueError, match="frames must be uint8"):
            resize_frames(wrong, 8)
