"""Files made by the ffmpeg command, and what can be heard and seen in them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np


def ffmpeg(*arguments: str | Path) -> None:
    """Run ffmpeg; a `str` that holds spaces is several arguments, unless it is a filter."""
    words: list[str] = []
    for argument in arguments:
        whole = isinstance(argument, Path) or str(argument).startswith("aevalsrc")
        words += [str(argument)] if whole else str(argument).split()
    subprocess.run(["ffmpeg", "-v", "error", "-y", *words], check=True, timeout=300)


CONTAINERS = {
    "ts": "-c:v libx264 -preset ultrafast -c:a aac",
    "mpg": "-c:v mpeg1video -c:a mp2",
    "vob": "-c:v mpeg2video -c:a ac3",
    "mkv": "-c:v libx264 -preset ultrafast -c:a aac",
    "webm": "-c:v libvpx -deadline realtime -cpu-used 8 -c:a libopus",
    "avi": "-c:v mpeg4 -c:a libmp3lame",
    "flv": "-c:v libx264 -preset ultrafast -c:a aac",
    "mp4": "-c:v libx264 -preset ultrafast -bf 2 -c:a aac",
}


def segment(path: Path, color: str, hertz: int, seconds: float = 8.0, options: str = "") -> Path:
    """Pictures of one color at 25 a second with a tone; the codecs are the container's."""
    picture = f"-f lavfi -i color=c={color}:size=64x48:rate=25:duration={seconds}"
    sound = f"-f lavfi -i sine=frequency={hertz}:sample_rate=48000:duration={seconds}"
    ffmpeg(picture, sound, CONTAINERS[path.suffix[1:]], "-g 25", options, path)
    return path


def join(path: Path, *parts: Path) -> Path:
    """The bytes of the parts one after the other."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def pitch(waveform: np.ndarray) -> int:
    """The loudest frequency in hertz, to 10 Hz."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return 10 * round(float(np.argmax(spectrum)) * 48000 / len(waveform) / 10)


def beep_at(waveform: np.ndarray) -> float:
    """Seconds at which the sound first passes a fifth of its peak."""
    return float(np.flatnonzero(np.abs(waveform) > 0.2 * np.abs(waveform).max())[0]) / 48000


def color(pixels: np.ndarray) -> str:
    """Which of red, green and blue a picture (H, W, 3) mostly is."""
    return ("red", "green", "blue")[int(np.argmax(pixels.mean((0, 1))))]
