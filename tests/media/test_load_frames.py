"""Promises of video decoding: exactly the frames asked for, upright, at their own times, and no needless work."""

from __future__ import annotations

import functools
import gc
import math
import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media.make import cut, pictures, scramble, tone, truncated_files, write_video
from PIL import Image

from peav.media import (
    DamagedMediaWarning,
    Frames,
    TruncatedMediaWarning,
    UnsupportedInputError,
    Window,
    WindowError,
    iter_frames,
    load_frames,
    probe,
    resize_frames,
)
from peav.media import schedule as schedule_module

COUNT = 150  # six seconds: long enough for a seek
UNEVEN = np.cumsum(np.random.default_rng(3).choice([0.02, 0.04, 0.11, 0.4], 50)).tolist()

KINDS: dict[str, dict[str, Any]] = {
    "b_frames.mp4": {"bf": "3", "g": "30"},
    "open_gop.mkv": {"bf": "3", "x264-params": "open-gop=1:keyint=20:b-pyramid=normal"},
    "one_key.mp4": {"g": "1000", "bf": "2"},
    "web.webm": {"codec": "libvpx-vp9", "g": "40", "deadline": "realtime", "cpu-used": "8"},
    "no_pts.avi": {"codec": "mpeg4", "g": "12"},
    "b_frames.avi": {"codec": "mpeg4", "g": "12", "bf": "2"},
    "broadcast.ts": {"bf": "2", "g": "25"},
    "uneven.mp4": {"times": UNEVEN, "bf": "2", "g": "20"},
    "uneven.mkv": {"times": UNEVEN, "g": "20"},
    "still.gif": {"codec": "gif", "pixel_format": "rgb8"},
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("video")
    return {
        name: write_video(folder / name, pictures(len(UNEVEN) if "times" in how else COUNT, 32, 48), **how)
        for name, how in KINDS.items()
    }


@functools.cache
def naive(path: Path) -> Frames:
    """Every frame by the plain loop, times counted from the first."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = np.array([frame.time for frame in frames])
    return Frames(np.stack([frame.to_ndarray(format="rgb24") for frame in frames]), times - times[0])


def same(frames: Frames, expected: Frames, index: Any) -> bool:
    close = np.allclose(frames.times, expected.times[index], atol=1e-9)
    return close and np.array_equal(frames.pixels, expected.pixels[index])


@pytest.mark.parametrize("name", list(KINDS))
def test_all_frames_are_those_of_the_plain_loop(name: str, library: dict[str, Path]) -> None:
    expected = naive(library[name])
    assert len(expected) == (len(UNEVEN) if name.startswith("uneven") else COUNT)
    assert same(load_frames(library[name]), expected, slice(None))


@pytest.mark.parametrize("name", list(KINDS))
@pytest.mark.parametrize("count", [1, 16, 300])
def test_evenly_spaced_frames_are_the_formulas(name: str, count: int, library: dict[str, Path]) -> None:
    expected = naive(library[name])
    n = len(expected)
    index = [int(i * (n - 1) / (count - 1)) for i in range(count)] if count > 1 else [0]
    assert same(load_frames(library[name], num_frames=count), expected, index)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(KINDS))
@settings(max_examples=5, deadline=None)
@given(start=st.floats(0, 5.5), length=st.floats(0.05, 4))
def test_a_span_holds_the_frames_that_start_in_it(
    name: str, start: float, length: float, library: dict[str, Path]
) -> None:
    expected = naive(library[name])
    index = np.flatnonzero((expected.times >= start) & (expected.times < start + length))
    if not len(index):  # a long frame of an uneven video stays on screen
        index = np.flatnonzero(expected.times <= start)[-1:]
    assert same(load_frames(library[name], start=start, end=start + length), expected, index)
    six = [index[int(i * (len(index) - 1) / 5)] for i in range(6)]
    assert same(load_frames(library[name], start=start, end=start + length, num_frames=6), expected, six)


@pytest.mark.parametrize("name", ["b_frames.mp4", "web.webm", "uneven.mp4", "no_pts.avi"])
@pytest.mark.parametrize("fps", [0.5, 3, 10, 25, 40])
def test_fps_gives_the_frame_on_screen_at_each_tick(name: str, fps: float, library: dict[str, Path]) -> None:
    expected = naive(library[name])
    frames = load_frames(library[name], fps=fps, start=1.0, end=3.0)
    assert len(frames) == 2 * fps
    index = [np.flatnonzero(expected.times <= 1.0 + i / fps + 1e-3)[-1] for i in range(len(frames))]
    assert same(frames, expected, index)


@pytest.mark.parametrize("name", ["b_frames.mp4", "open_gop.mkv", "uneven.mp4", "no_pts.avi"])
def test_windows_of_one_pass_join_to_the_whole(name: str, library: dict[str, Path]) -> None:
    expected = naive(library[name])
    pieces = [frames for _, frames in iter_frames(library[name], 1.7)]
    joined = Frames(np.concatenate([f.pixels for f in pieces]), np.concatenate([f.times for f in pieces]))
    if name == "uneven.mp4":  # a frame may be on screen for a whole window, and is given again there
        keep = np.unique(joined.times, return_index=True)[1]
        joined = Frames(joined.pixels[keep], joined.times[keep])
    assert same(joined, expected, slice(None))


def test_listed_windows_equal_loads_of_each(library: dict[str, Path]) -> None:
    asked = [Window(0.3, 1.0), Window(0.5, 2.0), Window(4.0, 4.01), Window(5.0, 20.0), Window(30.0, 31.0)]
    given_out = list(iter_frames(library["b_frames.mp4"], asked, num_frames=4))
    assert [w.start for w, _ in given_out] == [0.3, 0.5, 4.0, 5.0]
    assert given_out[-1][0].end == pytest.approx(6.0)
    for window, frames in given_out:
        part = load_frames(library["b_frames.mp4"], start=window.start, end=window.end, num_frames=4)
        assert same(frames, part, slice(None))


def test_sixteen_frames_convert_sixteen_and_decode_a_part(
    library: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[int] = []
    decode = schedule_module.Decoder.decode

    def counting(self: Any, packet: Any) -> list[Any]:
        fed.append(packet is not None)
        return decode(self, packet)

    monkeypatch.setattr(schedule_module.Decoder, "decode", counting)
    load_frames(library["b_frames.mp4"], start=4.5, end=5.0, num_frames=3)
    assert sum(fed) < 60  # of 150: from the key frame on


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("mirror", [False, True])
def test_frames_are_turned_upright(rotation: int, mirror: bool, tmp_path: Path) -> None:
    plain = load_frames(write_video(tmp_path / "plain.mp4", pictures(3)))
    path = write_video(tmp_path / "turned.mp4", pictures(3), rotation=rotation, mirror=mirror)
    expected = np.rot90(plain.pixels, -rotation // 90, axes=(1, 2))
    expected = expected[:, :, ::-1] if mirror else expected
    assert np.array_equal(load_frames(path).pixels, expected)
    info = probe(path)
    assert (info.height, info.width) == expected.shape[1:3]
    assert mirror or info.rotation == rotation


def test_size_squashes_each_frame(library: dict[str, Path]) -> None:
    full = load_frames(library["b_frames.mp4"], num_frames=5)
    small = load_frames(library["b_frames.mp4"], num_frames=5, size=20)
    assert np.array_equal(small.pixels, resize_frames(full.pixels, 20))


def test_a_single_frame_serves_every_request(tmp_path: Path) -> None:
    path = write_video(tmp_path / "one.mp4", pictures(1))
    assert load_frames(path).pixels.shape == (1, 48, 64, 3)
    assert load_frames(path, num_frames=16).pixels.shape == (16, 48, 64, 3)
    assert load_frames(path, fps=30).pixels.shape[0] in (1, 2)


def test_a_frame_rate_that_lies_in_the_header_does_not_matter(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", pictures(30), 30.0)
    data = path.read_bytes()
    at = data.index(b"\x23\xe3\x83")  # Matroska's default frame duration, here made ten times longer
    told = int.from_bytes(data[at + 4 : at + 8], "big")
    path.write_bytes(data[: at + 4] + (10 * told).to_bytes(4, "big") + data[at + 8 :])
    assert len(load_frames(path)) == 30
    assert load_frames(path).times[-1] == pytest.approx(29 / 30, abs=1e-3)


def test_path_bytes_and_file_object_give_the_same(library: dict[str, Path]) -> None:
    path = library["open_gop.mkv"]
    expected = load_frames(path, num_frames=7, start=4.5)
    with path.open("rb") as file:
        for source in (str(path), path.read_bytes(), file):
            assert same(load_frames(source, num_frames=7, start=4.5), expected, slice(None))


def test_decoding_twice_gives_the_same_bits(library: dict[str, Path]) -> None:
    one, two = (load_frames(library["b_frames.mp4"], num_frames=16, size=32) for _ in range(2))
    assert np.array_equal(one.pixels, two.pixels)


def test_sound_and_picture_share_a_timeline(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", pictures(50), times=[1 + i / 25 for i in range(50)], sound=tone(3.0))
    assert load_frames(path).times[0] == pytest.approx(1.0, abs=2e-3)


@pytest.mark.filterwarnings("ignore::peav.media.DamagedMediaWarning")  # the last packet, cut in two
@pytest.mark.parametrize("name", ["cut_video.mkv", "cut_video.mp4"])
def test_a_truncated_video_gives_what_it_holds_and_says_how_much(name: str, tmp_path: Path) -> None:
    path = truncated_files(tmp_path)[name]
    with pytest.warns(
        TruncatedMediaWarning, match=rf"{name}: truncated: it holds [12]\.\d\d s of the 4\.0. s of video"
    ):
        frames = load_frames(path)
    assert 30 < len(frames) < 70
    with pytest.warns(TruncatedMediaWarning):
        even = load_frames(path, num_frames=8)
    assert np.array_equal(even.times, frames.times[[int(i * (len(frames) - 1) / 7) for i in range(8)]])


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_damage_in_the_middle_is_told_and_the_rest_given(suffix: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / f"a.{suffix}", np.repeat(pictures(60), 2, 0), crf="1", g="10")
    expected = naive(path)
    scramble(path, 0.5, 0.52)
    with pytest.warns(DamagedMediaWarning, match="a.m"):
        frames = load_frames(path)
    assert 100 < len(frames) <= 120
    assert same(Frames(frames.pixels[:40], frames.times[:40]), expected, slice(40))


def test_frames_that_change_size_need_a_size(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    small, large = (write_video(tmp_path / f"{n}.ts", pictures(5, 32 * n, 32 * n)) for n in (1, 2))
    path.write_bytes(small.read_bytes() + large.read_bytes())
    with pytest.raises(UnsupportedInputError, match=r"a\.ts: its frames change size .* give size="):
        load_frames(path)
    assert load_frames(path, size=16).pixels.shape[1:] == (16, 16, 3)


@pytest.mark.parametrize(
    "how", [{"num_frames": 4, "fps": 2}, {"num_frames": 0}, {"fps": -1.0}, {"fps": math.nan}, {"size": 0}]
)
def test_senseless_requests_are_errors(how: dict[str, Any], library: dict[str, Path]) -> None:
    with pytest.raises(UnsupportedInputError):
        load_frames(library["b_frames.mp4"], **how)


def test_a_start_past_the_end_is_an_error(library: dict[str, Path]) -> None:
    with pytest.raises(WindowError, match=r"b_frames\.mp4: start=9\.0 is past the end"):
        load_frames(library["b_frames.mp4"], start=9.0)


def test_no_file_stays_open(library: dict[str, Path]) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    frames = iter_frames(library["b_frames.mp4"], 1.0)
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    load_frames(library["no_pts.avi"], num_frames=2)
    assert before == (len(os.listdir("/proc/self/fd")) if before else 0)


def test_a_truncated_index_less_file_is_cut(tmp_path: Path) -> None:
    path = cut(write_video(tmp_path / "a.avi", pictures(50), codec="mpeg4"), 0.6)
    with pytest.warns(TruncatedMediaWarning):
        assert 5 < len(load_frames(path)) < 50


@pytest.mark.parametrize(("orientation", "rotation"), [(1, 0), (3, 180), (6, 90), (8, 270)])
def test_pictures_with_exif_are_turned_as_it_says(orientation: int, rotation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "maker"
    Image.fromarray(pictures(1, 48, 64)[0]).save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    upright = np.rot90(pictures(1, 48, 64)[0], -rotation // 90)
    shown = load_frames(tmp_path / "a.jpg").pixels[0]
    assert shown.shape == upright.shape
    assert np.abs(shown.astype(int) - upright).max() < 40
    assert probe(tmp_path / "a.jpg").rotation == rotation


@pytest.mark.slow
def test_frames_are_freed_without_waiting_for_the_garbage_collector(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", pictures(20))
    load_frames(path, size=8)  # what is imported on the way makes cycles of its own
    gc.collect()
    gc.disable()
    try:
        load_frames(path, size=8)
        probe(path)
        assert not [one for one in gc.get_objects() if type(one) is av.VideoFrame]
    finally:
        gc.enable()
