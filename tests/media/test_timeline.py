"""One clock for sound and pictures, whatever a file's timestamps do: they restart, jump, wrap, or start late."""

from __future__ import annotations

import shutil
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from media.ffmpeg import CONTAINERS, beep_at, color, ffmpeg, join, pitch, segment
from media.make import pictures, tone, write_video

from peav.media import (
    MediaError,
    MediaWarning,
    NoAudioStreamError,
    NonFiniteError,
    Window,
    as_waveform,
    iter_audio,
    iter_frames,
    load_audio,
    load_frames,
    probe,
)

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg command")


@pytest.fixture(scope="module")
def cases(shared: Path) -> Path:
    return shared / "cases"


def check_joined(path: Path, sound: bool = True, pictures: bool = True, rounding: float = 2e-3) -> None:
    """Eight seconds of red and 440 Hz, then eight of blue and 880 Hz: whole, in windows, and part by part."""
    assert probe(path).duration == pytest.approx(16, abs=0.12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if sound:
            whole = load_audio(path)
            assert len(whole) / 48000 == pytest.approx(16, abs=0.12)
            pieces = list(iter_audio(path, 2.0))
            assert [pitch(waveform) for _, waveform in pieces] == [440] * 4 + [880] * 4
            for start in (6.5, 9.0, 12.0):
                part = load_audio(path, start=start, end=start + 1.0)
                at = round(start * 48000)
                assert pitch(part) == pitch(whole[at : at + 48000]) == (440 if start < 8 else 880)
                # Where a container rounds its timestamps, a part may lie as much beside its place.
                room = round(rounding * 48000)
                near = min(np.abs(part[9600:14400] - whole[at + s :][9600:14400]).max() for s in range(-room, room + 1))
                assert near < 2e-2
        if pictures:
            frames = load_frames(path)
            assert len(frames) == 400
            assert (np.diff(frames.times) > 0).all()
            assert [color(pixels) for pixels in frames.pixels[[0, 190, 210, 399]]] == ["red", "red", "blue", "blue"]
            windows = [(window, part) for window, part in iter_frames(path, 2.0, num_frames=4)]
            assert [color(part.pixels[2]) for _, part in windows] == ["red"] * 4 + ["blue"] * 4
            late = load_frames(path, start=12.0, end=12.5)
            assert color(late.pixels[0]) == "blue"
            index = np.flatnonzero((frames.times >= 12.0) & (frames.times < 12.5))
            assert np.array_equal(late.pixels, frames.pixels[index])


@pytest.mark.parametrize("name", ["cat.ts", "video_only_cat.ts", "jump_7200.ts"])
def test_a_broadcast_whose_timestamps_restart_or_jump_is_sixteen_seconds(name: str, cases: Path) -> None:
    check_joined(cases / name, sound=not name.startswith("video"))
    if name == "cat.ts":
        assert pitch(load_audio(cases / name, start=6.5, end=7.5)) == 440


def test_chained_ogg_goes_on(cases: Path) -> None:
    path = cases / "cat.opus"
    assert probe(path).duration == pytest.approx(10, abs=0.03)
    assert len(load_audio(path)) / 48000 == pytest.approx(10, abs=0.03)
    assert pitch(load_audio(path, start=6.5, end=7.5)) == 880
    assert pitch(load_audio(path, start=3.5, end=4.5)) == 440


@needs_ffmpeg
@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["ts", "mpg", "vob", "mkv", "webm"])
def test_files_joined_byte_for_byte_go_on_where_the_first_one_ended(suffix: str, tmp_path: Path) -> None:
    red = segment(tmp_path / f"red.{suffix}", "red", 440)
    blue = segment(tmp_path / f"blue.{suffix}", "blue", 880)
    check_joined(join(tmp_path / f"joined.{suffix}", red, blue), rounding=3e-3)


@pytest.mark.slow
@needs_ffmpeg
@pytest.mark.filterwarnings("ignore::peav.media.DamagedMediaWarning")  # the last sound of the first one comes too late
def test_a_joined_broadcast_under_new_identifiers_goes_on(tmp_path: Path) -> None:
    red = segment(tmp_path / "red.ts", "red", 440)
    blue = segment(tmp_path / "blue.ts", "blue", 880, options="-mpegts_start_pid 0x200")
    path = join(tmp_path / "joined.ts", red, blue)
    assert probe(path).duration == pytest.approx(16, abs=0.12)
    assert [pitch(waveform) for _, waveform in iter_audio(path, 2.0)] == [440] * 4 + [880] * 4
    parts = [part for _, part in iter_frames(path, 2.0, num_frames=4)]
    assert [color(part.pixels[2]) for part in parts] == ["red"] * 4 + ["blue"] * 4


@pytest.mark.slow
@needs_ffmpeg
def test_a_broadcast_that_goes_on_as_another_program_is_told(tmp_path: Path) -> None:
    red = segment(tmp_path / "red.ts", "red", 440)
    blue = segment(tmp_path / "blue.ts", "blue", 880, options="-mpegts_start_pid 0x200 -mpegts_pmt_start_pid 0x1100")
    path = join(tmp_path / "joined.ts", red, blue)
    with pytest.warns(MediaWarning, match=r"joined\.ts: .* holds 8\.02 s of audio and then \d+ bytes"):
        assert pitch(load_audio(path)) == 440
    with pytest.warns(MediaWarning, match=r"joined\.ts: .* holds 8\.02 s of video and then \d+ bytes"):
        assert len(load_frames(path)) == 200


def test_pictures_that_appear_late_are_read(cases: Path) -> None:
    path = cases / "late3.flv"
    info = probe(path)
    assert (info.has_audio, info.has_video) == (True, True)
    assert info.duration == pytest.approx(45, abs=0.1)
    assert len(load_audio(path)) / 48000 == pytest.approx(45, abs=0.1)
    frames = load_frames(path)
    assert len(frames) == 50
    assert frames.times[0] == pytest.approx(40, abs=0.05)


@needs_ffmpeg
def test_sound_that_appears_late_is_read(tmp_path: Path) -> None:
    path = tmp_path / "late.flv"
    picture = "-f lavfi -i color=c=red:size=64x48:rate=25:duration=20"
    tone = "-itsoffset 15 -f lavfi -i sine=frequency=880:sample_rate=44100:duration=5"
    ffmpeg(picture, tone, CONTAINERS["flv"], path)
    assert probe(path).has_audio
    heard = load_audio(path)
    assert beep_at(heard) == pytest.approx(15, abs=0.05)
    assert pitch(heard[16 * 48000 : 17 * 48000]) == 880
    assert len(load_frames(path, size=8)) == 500


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["oga", "mp3", "aac", "ac3"])
@pytest.mark.filterwarnings("ignore::peav.media.DamagedMediaWarning")  # the first packet after the seam, in MP3
def test_joined_sound_goes_on(suffix: str, tmp_path: Path) -> None:
    for hertz in (440, 880):
        ffmpeg(f"-f lavfi -i sine=frequency={hertz}:sample_rate=48000:duration=6", tmp_path / f"{hertz}.{suffix}")
    path = join(tmp_path / f"joined.{suffix}", *(tmp_path / f"{hertz}.{suffix}" for hertz in (440, 880)))
    assert probe(path).duration == pytest.approx(12, abs=0.12)
    assert [pitch(waveform) for _, waveform in iter_audio(path, 3.0)] == [440, 440, 880, 880]
    assert pitch(load_audio(path, start=5.0, end=5.9)) == 440
    assert pitch(load_audio(path, start=8.0, end=9.0)) == 880


@pytest.mark.slow
@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["flac", "wav", "m4a", "flv", "mp4"])
def test_files_that_ffmpeg_reads_the_first_of_go_on_when_joined(suffix: str, tmp_path: Path) -> None:
    parts = []
    for hue, hertz in (("red", 440), ("blue", 880)):
        parts.append(tmp_path / f"{hue}.{suffix}")
        if suffix in CONTAINERS:
            segment(parts[-1], hue, hertz, 5.0)
        else:
            ffmpeg(f"-f lavfi -i sine=frequency={hertz}:sample_rate=48000:duration=5", parts[-1])
    path = join(tmp_path / f"joined.{suffix}", *parts)
    lengths = [probe(part).duration for part in parts]
    seam = round(lengths[0] * 48000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert probe(path).duration == pytest.approx(sum(lengths))
        heard = load_audio(path)
        assert np.array_equal(heard[seam:], load_audio(parts[1]))
        first = load_audio(parts[0])[:seam]
        assert np.array_equal(heard[: len(first)], first)
        assert np.array_equal(load_audio(path, start=lengths[0]), heard[seam:])
        assert np.array_equal(load_audio(path.read_bytes(), end=7.0), heard[: 7 * 48000])
        assert [window for window, _ in iter_audio(path, [Window(1, 2), Window(6, 7), Window(40, 41)])] == [
            Window(1, 2),
            Window(6, 7),
        ]
        if suffix in CONTAINERS:
            seen = load_frames(path)
            assert np.array_equal(seen.pixels, np.concatenate([load_frames(part).pixels for part in parts]))
            assert (np.diff(seen.times) > 0).all()
            late = load_frames(path, start=7.0, end=7.5)
            index = np.flatnonzero((seen.times >= 7.0) & (seen.times < 7.5))
            assert np.array_equal(late.pixels, seen.pixels[index])
            ((_, part),) = iter_frames(path, [Window(0.0, 10.0)], num_frames=4)
            assert [color(pixels) for pixels in part.pixels] == ["red"] * 2 + ["blue"] * 2


def test_a_joined_part_without_sound_is_silent(tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", pictures(30))
    sound = write_video(tmp_path / "sound.mp4", pictures(30), sound=tone(1.2))
    path = join(tmp_path / "joined.mp4", silent, sound)
    assert (probe(path).has_audio, probe(path).has_video) == (True, True)
    heard, begin = load_audio(path), round(probe(silent).duration * 48000)
    assert not heard[:begin].any()
    assert np.array_equal(heard[begin:], load_audio(sound))
    with pytest.raises(NoAudioStreamError):
        load_audio(join(tmp_path / "none.mp4", silent, silent))


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_a_clock_that_wraps_at_33_bits_goes_on(suffix: str, tmp_path: Path) -> None:
    plain = segment(tmp_path / f"plain.{suffix}", "red", 440)
    wrap = 2**33 / 90000
    moved = tmp_path / f"moved.{suffix}"
    ffmpeg("-i", plain, f"-c copy -output_ts_offset {wrap - 4 - probe(plain).duration / 8}", moved)
    assert probe(moved).duration == pytest.approx(probe(plain).duration, abs=0.05)
    assert len(load_frames(moved, size=8)) == 200
    whole = load_audio(plain)
    heard = load_audio(moved)
    assert abs(len(heard) - len(whole)) <= 1
    assert np.abs(heard[:96000] - whole[:96000]).max() < 1e-2


@pytest.mark.slow
@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "mpg", "vob", "flv"])
def test_a_beep_stays_with_its_flash(suffix: str, tmp_path: Path) -> None:
    for delay in (0.0, 0.03, 0.09, 0.5):
        path = tmp_path / f"{delay}.{suffix}"
        flash = "color=c=black:size=64x48:rate=25:duration=3,drawbox=t=fill:c=white:enable='between(t,1,1.19)'"
        beep = r"aevalsrc=if(between(t\,1\,1.2)\,0.8*sin(2*PI*1000*t)\,0):s=48000:d=2"
        ffmpeg(f"-f lavfi -i {flash} -itsoffset {delay} -f lavfi -i", beep, CONTAINERS[suffix], path)
        frames = load_frames(path)
        flash_at = frames.times[np.flatnonzero(frames.pixels.mean((1, 2, 3)) > 128)[0]]
        assert beep_at(load_audio(path)) - flash_at == pytest.approx(delay, abs=3e-3)


def test_an_offset_of_ninety_milliseconds_is_kept(cases: Path) -> None:
    path = cases / "av_alate_0.09.mkv"
    frames = load_frames(path)
    flash_at = frames.times[np.flatnonzero(frames.pixels.mean((1, 2, 3)) > 128)[0]]
    assert flash_at == pytest.approx(2.0, abs=1e-3)
    assert beep_at(load_audio(path)) - flash_at == pytest.approx(0.090, abs=2e-3)


def test_the_default_video_track_is_shown(cases: Path) -> None:
    frames = load_frames(cases / "two_video.mkv")
    assert frames.pixels.shape[1:] == (240, 320, 3)
    assert color(frames.pixels[0]) == "blue"
    assert (probe(cases / "two_video.mkv").width, probe(cases / "two_video.mkv").height) == (320, 240)


def test_a_range_of_a_program_stream_equals_the_slice_of_the_whole(cases: Path) -> None:
    whole = load_audio(cases / "range.vob")
    for start in (9.0, 4.5, 17.0):
        part = load_audio(cases / "range.vob", start=start, end=start + 1.0)
        # AC-3 fills quiet bands with noise of its own, which no two runs share.
        assert np.abs(part - whole[round(start * 48000) :][:48000]).max() < 1e-3


def test_packed_samples_are_whole_whatever_the_header_says_of_their_bytes(cases: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = load_audio(cases / "ima.wav")
        assert len(whole) / 48000 == pytest.approx(12.033, abs=1e-3)
        assert probe(cases / "ima.wav").duration == pytest.approx(12.033, abs=1e-3)
        assert np.array_equal(load_audio(cases / "ima.wav", start=6.5, end=7.5), whole[312000:360000])


def test_samples_too_large_for_any_sound_are_a_typed_error(cases: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"huge_1e30\.wav: samples reach 1\.42e\+30, where 1 is full scale"):
        load_audio(cases / "huge_1e30.wav")
    for samples in (np.full(960, 1e30), np.full((2, 960), 3e38)):
        with pytest.raises(NonFiniteError):
            as_waveform(samples, 16000)


def test_sound_that_is_damaged_once_keeps_the_file_in_step(tmp_path: Path) -> None:
    """A timestamp that is wrong once is not a jump of the file."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs the ffmpeg command")
    path = segment(tmp_path / "a.ts", "red", 440)
    data = bytearray(path.read_bytes())
    at = [i for i in range(0, len(data), 188) if data[i + 1] & 0x5F == 0x41 and data[i + 2] == 1][8]
    pes = data.index(b"\0\0\1", at, at + 188)
    data[pes + 9] ^= 0x04  # a high bit of the timestamp: some three hours
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MediaWarning)
        assert probe(path).duration == pytest.approx(8, abs=0.3)
        assert len(load_audio(path)) / 48000 == pytest.approx(8, abs=0.3)
        assert len(load_frames(path)) == 200


def test_a_window_of_the_part_after_a_jump_can_be_listed(cases: Path) -> None:
    asked = [Window(1.0, 2.0), Window(7.0, 9.0), Window(14.0, 15.0), Window(40.0, 41.0)]
    heard = list(iter_audio(cases / "jump_7200.ts", asked))
    seen = list(iter_frames(cases / "jump_7200.ts", asked, num_frames=3))
    assert [window for window, _ in heard] == [window for window, _ in seen] == asked[:3]
    assert [color(part.pixels[-1]) for _, part in seen] == ["red", "blue", "blue"]


@pytest.mark.slow
def test_every_case_is_a_result_or_a_typed_error(cases: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MediaWarning)
        for path in sorted(cases.iterdir()):
            for function in (probe, load_audio, lambda source: load_frames(source, num_frames=2, size=8)):
                with suppress(MediaError):
                    function(path)
