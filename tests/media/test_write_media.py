"""What is written reads back: samples exactly where nothing is lost, every frame, and the same bytes each time."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import pytest
from media.make import pictures, tone

from peav.media import load_audio, load_frames, probe
from peav.media.write import write_media

SAMPLES = np.random.default_rng(0).integers(-32768, 32768, 70_001).astype(np.int16)


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_sixteen_bits_come_back_exactly(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"a.{format}"
    write_media(path, format, audio=[SAMPLES])
    assert np.array_equal(load_audio(path), SAMPLES / np.float32(32768))


def test_a_wav_is_what_the_standard_library_writes() -> None:
    ours, theirs = io.BytesIO(), io.BytesIO()
    write_media(ours, "wav", audio=[SAMPLES])
    with wave.open(theirs, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes(SAMPLES.astype("<i2").tobytes())
    assert ours.getvalue() == theirs.getvalue()


def test_an_mp4_has_its_frames_at_their_times_and_its_sound(tmp_path: Path) -> None:
    frames, sound = pictures(10, 48, 64), tone(1.0)[0].astype(np.float32)
    write_media(tmp_path / "a.mp4", "mp4", audio=[sound], video=frames, fps=10, video_options={"crf": "1"})
    info, found = probe(tmp_path / "a.mp4"), load_frames(tmp_path / "a.mp4")
    assert (info.has_audio, info.has_video) == (True, True)
    assert found.times.tolist() == pytest.approx([number / 10 for number in range(10)])
    assert np.abs(found.pixels.astype(int) - frames).mean() < 6
    heard = load_audio(tmp_path / "a.mp4")[: len(sound)]
    assert np.corrcoef(heard, sound)[0, 1] > 0.99


def test_one_stream_alone_is_a_file_too() -> None:
    for streams in ({"audio": [np.zeros(4800, np.float32)]}, {"video": pictures(3)}):
        file = io.BytesIO()
        write_media(file, "mp4", **streams)
        info = probe(file.getvalue())
        assert (info.has_audio, info.has_video) == ("audio" in streams, "video" in streams)


def test_sound_in_blocks_is_the_same_file_as_at_once() -> None:
    sound = tone(3.0)[0].astype(np.float32)
    whole, parts = io.BytesIO(), io.BytesIO()
    write_media(whole, "mp4", audio=[sound])
    write_media(parts, "mp4", audio=np.array_split(sound, 7))
    assert parts.getvalue() == whole.getvalue()


def test_options_reach_the_codecs() -> None:
    sound, frames = tone(2.0)[0].astype(np.float32), pictures(20)

    def size(**options: dict[str, str]) -> int:
        file = io.BytesIO()
        write_media(file, "mp4", audio=[sound], video=frames, **options)
        return len(file.getvalue())

    assert size(audio_options={"b": "16000"}) < size()
    assert size(video_options={"crf": "40"}) < size()
