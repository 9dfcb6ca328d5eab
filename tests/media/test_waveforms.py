"""The sound of a whole file is what the ffmpeg command makes of it: every sample, to the last one."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from media.ffmpeg import ffmpeg

from peav.media import load_audio

CODECS = {
    "m4a": "aac",
    "mp4": "aac",
    "ts": "aac",
    "mkv": "aac",
    "ogg": "libvorbis",
    "opus": "libopus",
    "mp3": "libmp3lame",
    "flac": "flac",
    "wav": "pcm_s16le",
    "webm": "libopus",
    "avi": "libmp3lame",
    "mpg": "mp2",
    "vob": "ac3",
    "flv": "aac",
    "wma": "wmav2",
}
SOURCES = [(48000, 1), (44100, 2), (22050, 1)]

# From FFmpeg 9 on the sound of an MP4 ends where its edit list says; before, and so in the command that most systems
# have, the encoder's padding follows.
TRIMMED = {"m4a", "mp4"} if av.library_versions["libavformat"][0] >= 63 else set()
RESAMPLER = 32  # its last samples depend on what follows them

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg command")


def truth(path: Path) -> np.ndarray:
    """(S,) as the ffmpeg command decodes it."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-vn", "-ac", "1", "-ar", "48000", "-f", "f32le", "-"]
    return np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.float32)


def assert_equal(path: Path) -> None:
    """`load_audio` gives what the ffmpeg command gives, in length and to 1e-6."""
    expected, heard = truth(path), load_audio(path)
    same = len(expected)
    if path.suffix[1:] in TRIMMED:
        with av.open(path) as container:
            stream = container.streams.audio[0]
            length = math.ceil(stream.duration * stream.time_base * 48000)
        assert length < len(expected)
        expected, same = expected[:length], length - RESAMPLER
    assert len(heard) == len(expected)
    assert np.abs(heard - expected)[:same].max() <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("suffix", list(CODECS))
def test_a_whole_file_equals_ffmpegs_samples(suffix: str, tmp_path: Path) -> None:
    for rate, channels in SOURCES:
        if (suffix, rate) == ("webm", 22050):
            continue  # Opus at 24 kHz in WebM: since FFmpeg 8 its reader leaves half of the codec's delay in
        wave = "0.3*sin(2*PI*(220+60*t)*t)+0.02*random(0)|0.3*sin(2*PI*(440+30*t)*t)+0.02*random(1)"
        path = tmp_path / f"{rate}.{suffix}"
        ffmpeg("-f lavfi -i", f"aevalsrc={wave}:s={rate}:d=1.2345", f"-ac {channels} -c:a {CODECS[suffix]}", path)
        assert len(truth(path)) > 1.1 * 48000
        assert_equal(path)


@pytest.mark.slow
def test_pictures_beside_it_do_not_change_the_sound(tmp_path: Path) -> None:
    for suffix in ("mp4", "mkv", "ts"):
        path = tmp_path / f"a.{suffix}"
        ffmpeg("-f lavfi -i testsrc=d=1.5:s=64x48 -f lavfi -i sine=d=1.5:r=44100 -c:v mpeg4 -c:a aac", path)
        assert_equal(path)


def test_a_window_cuts_the_tail_and_the_whole_keeps_it(tmp_path: Path) -> None:
    ffmpeg("-f lavfi -i sine=d=2:r=48000 -c:a aac", tmp_path / "a.m4a")
    whole = load_audio(tmp_path / "a.m4a")
    assert len(whole) == 2 * 48000 if TRIMMED else len(whole) > 2 * 48000
    assert np.array_equal(load_audio(tmp_path / "a.m4a", end=2.0), whole[: 2 * 48000])
