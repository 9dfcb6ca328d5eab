"""Small pictures, wave shapes and excerpts of files, as `data:` addresses that stand in a page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from peav.media.audio import load_audio
from peav.media.probe import probe
from peav.media.video import load_frames
from peav.media.write import write_media

POSTER_WIDTH = 320
PREVIEW_SECONDS = 10.0
PREVIEW_FPS = 12
X264 = {"crf": "30", "preset": "veryfast"}
WHOLE_BELOW = 400_000  # bytes: an mp4 this small goes into the page as it is


def poster(path: Path) -> str:
    """The middle frame as a JPEG `data:` address."""
    frames = load_frames(path, num_frames=3)
    picture = Image.fromarray(frames.pixels[1])
    picture.thumbnail((POSTER_WIDTH, POSTER_WIDTH))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=78, optimize=True)
    return _address("image/jpeg", buffer.getvalue())


def wave_shape(path: Path, bars: int = 56) -> list[float]:
    """Loudness over the clip in `bars` steps of 0 to 1."""
    sound = np.abs(load_audio(path, end=PREVIEW_SECONDS, sampling_rate=16000))
    if len(sound) < bars:
        return [0.0] * bars
    peaks = np.array([np.sqrt(np.mean(part**2)) for part in np.array_split(sound, bars)])
    # Loudness is heard roughly as a cube root of power; a linear scale shows only the loudest moment.
    return [round(float(level), 2) for level in (peaks / max(float(peaks.max()), 1e-9)) ** 0.6]


def preview(path: Path, has_video: bool) -> str:
    """The clip as a `data:` address that browsers play: as it is if small, else its first 10 s made small."""
    if path.suffix.lower() == ".mp4" and path.stat().st_size < WHOLE_BELOW:
        return _address("video/mp4", path.read_bytes())
    return _address("video/mp4", _transcoded(path, 0.0, PREVIEW_SECONDS, has_video))


def excerpt(path: Path, start: float, end: float) -> tuple[str, bool]:
    """`[start, end)` seconds of a file as a `data:` address that browsers play, and whether there are pictures.

    Raises MediaError.
    """
    info = probe(path)
    return _address("video/mp4", _transcoded(path, start, end, info.has_video)), info.has_video


def _transcoded(path: Path, start: float, end: float, has_video: bool) -> bytes:
    """An mp4 at most 320 pixels wide."""
    buffer = io.BytesIO()
    sound = [load_audio(path, start=start, end=end)] if probe(path).has_audio else None
    pictures = _small(load_frames(path, fps=PREVIEW_FPS, start=start, end=end).pixels) if has_video else None
    write_media(buffer, "mp4", audio=sound, video=pictures, fps=PREVIEW_FPS, video_options=X264)
    return buffer.getvalue()


def _small(pixels: np.ndarray) -> np.ndarray:
    """Frames (N, H, W, 3) at most 320 pixels wide, with even sides."""
    height, width = pixels.shape[1:3]
    scale = min(1.0, POSTER_WIDTH / width)
    size = [2 * max(1, round(side * scale / 2)) for side in (width, height)]
    return np.stack([np.asarray(Image.fromarray(frame).resize(size)) for frame in pixels])


def _address(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
