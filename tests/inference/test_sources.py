"""Promises of reading: one bad stream costs itself, two files share a clock, reading ahead keeps order and errors."""

from __future__ import annotations

import shutil
import subprocess
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media.make import patch, pictures, tone, write_audio, write_video

from peav.inference.sources import MediaWindow, WindowReader, read_ahead
from peav.media import MediaError, NoAudioStreamError, StreamWarning, UndecodableError


def clips(source: Any, streams: Any = "any", window: float | None = 10.0, **how: Any) -> list[MediaWindow]:
    reader = WindowReader(streams, window, 48000, 1920, 8, 4, 10000)
    return list(reader.clips(0, source, how.get("sampling_rate")))


def reds(clip: MediaWindow) -> list[bool]:
    assert clip.frames is not None
    return [bool(pixels.mean((0, 1))[0] > pixels.mean((0, 1))[2]) for pixels in clip.frames]


@pytest.fixture(scope="module")
def cases(shared: Path) -> Path:
    return shared / "cases"


def test_a_declared_stream_that_is_empty_costs_itself(cases: Path) -> None:
    with pytest.warns(StreamWarning, match=r"empty_audio\.mkv: .* \(the file is used without its audio"):
        (clip,) = clips(cases / "empty_audio.mkv")
    assert clip.modality == "video"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert clips(cases / "empty_audio.mkv", "video")[0].modality == "video"
    with pytest.raises(UndecodableError):
        clips(cases / "empty_audio.mkv", "audio")


def test_a_stream_without_a_decoder_costs_itself(cases: Path) -> None:
    with pytest.warns(StreamWarning, match=r"unk_video\.mp4: .* \(the file is used without its video"):
        (clip,) = clips(cases / "unk_video.mp4")
    assert clip.modality == "audio"
    assert clip.end == pytest.approx(6.0, abs=0.03)
    assert clips(cases / "unk_video.mp4", "audio")[0].modality == "audio"


def test_sound_without_a_decoder_beside_good_pictures_costs_itself(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", pictures(50), sound=tone(2.0), sound_codec="alac")
    patch(path, b"alac", b"zz9z")
    with pytest.warns(StreamWarning, match="without its audio"):
        (clip,) = clips(path)
    assert clip.modality == "video"
    with pytest.raises(MediaError):
        clips(path, "audio_video")


def test_sound_that_is_not_finite_beside_good_pictures_costs_itself(tmp_path: Path) -> None:
    sound = tone(3.0)
    sound[0, 100_000] = np.nan
    path = write_video(tmp_path / "a.mkv", pictures(75), sound=sound, sound_codec="pcm_f32le")
    with pytest.warns(StreamWarning, match="NaN"):
        read = clips(path, window=1.0)
    assert [clip.modality for clip in read] == ["audio_video", "audio_video", "video"]


def test_two_files_are_cut_as_one_file_of_both_would_be(cases: Path) -> None:
    sound, film = cases / "tone10.wav", cases / "redblue.mp4"
    read = clips({"audio": str(sound), "video": str(film)})
    assert [(clip.start, clip.end, clip.modality) for clip in read] == [
        (0.0, 10.0, "audio_video"),
        (10.0, 20.0, "video"),
        (20.0, 30.0, "video"),
    ]
    assert [all(reds(clip)) for clip in read] == [True, False, False]
    assert [
        (clip.start, clip.modality) for clip in clips({"audio": str(sound), "video": str(film)}, "audio_video")
    ] == [(0.0, "audio_video")]
    array = np.zeros(10 * 16000, np.float32)
    mixed = clips({"audio": array, "video": str(film)}, sampling_rate=16000)
    assert [(clip.start, clip.end, clip.modality) for clip in mixed] == [
        (clip.start, clip.end, clip.modality) for clip in read
    ]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg command")
def test_two_files_equal_the_file_that_holds_both(cases: Path, tmp_path: Path) -> None:
    sound, film, both = cases / "tone10.wav", cases / "redblue.mp4", tmp_path / "both.mkv"
    subprocess.run(["ffmpeg", "-v", "error", "-i", sound, "-i", film, "-c", "copy", both], check=True)
    for one, two in zip(clips({"audio": str(sound), "video": str(film)}), clips(both), strict=True):
        assert (one.start, one.modality) == (two.start, two.modality)
        assert np.array_equal(one.frames, two.frames)  # type: ignore[arg-type]
        if one.waveform is not None:
            assert np.array_equal(one.waveform, two.waveform)  # type: ignore[arg-type]


def test_a_file_of_a_pair_that_lacks_its_stream_is_named(tmp_path: Path) -> None:
    sound, film = write_audio(tmp_path / "a.wav", tone(1.0)), write_video(tmp_path / "b.mp4", pictures(25))
    with pytest.raises(NoAudioStreamError, match=r"b\.mp4"):
        clips({"audio": str(film), "video": str(film)})
    with pytest.raises(MediaError, match=r"a\.wav"):
        clips({"audio": str(sound), "video": str(sound)})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg command")
def test_a_long_joined_broadcast_has_all_its_windows(tmp_path: Path) -> None:
    make = "-f lavfi -i color=c=green:size=32x32:rate=5:duration=420 -f lavfi"
    make += " -i sine=frequency=500:sample_rate=16000:duration=420 -c:v libx264 -preset ultrafast -g 25 -c:a aac"
    part, joined = tmp_path / "part.ts", tmp_path / "joined.ts"
    subprocess.run(["ffmpeg", "-v", "error", *make.split(), part], check=True)
    joined.write_bytes(2 * part.read_bytes())
    read = clips(joined, window=30.0)
    assert len(read) == 28
    assert all(clip.modality == "audio_video" for clip in read)
    assert read[-1].end == pytest.approx(840, abs=0.3)


def test_reading_ahead_keeps_order_and_errors() -> None:
    def numbers() -> Iterator[int]:
        yield from (1, 2, 3)
        raise ZeroDivisionError

    ahead = read_ahead(numbers())
    assert [next(ahead), next(ahead), next(ahead)] == [1, 2, 3]
    with pytest.raises(ZeroDivisionError):
        next(ahead)


def test_a_stream_given_up_half_way_is_closed_without_waiting_for_the_item_being_made() -> None:
    go_on = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        go_on.wait(60)
        yield 2

    ahead = read_ahead(items())
    assert next(ahead) == 1
    closing = threading.Thread(target=ahead.close, daemon=True)
    closing.start()
    closing.join(20)
    waited = closing.is_alive()
    go_on.set()
    assert not waited
