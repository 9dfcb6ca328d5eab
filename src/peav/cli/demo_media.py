"""Small pictures, wave shapes and previews of clips, as text that fits into a page."""

from __future__ import annotations

import base64
import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from peav.media import load_audio, load_frames, probe

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
    return _address("video/mp4", _transcode(path, has_video))


def _transcode(path: Path, has_video: bool) -> bytes:
    """An mp4 of the first 10 s, at most 320 pixels wide."""
    buffer = io.BytesIO()
    has_audio = probe(path).has_audio
    with av.open(buffer, "w", format="mp4") as container:
        # Both streams before the first packet: it writes the header.
        video = container.add_stream("libx264", rate=PREVIEW_FPS, options=X264) if has_video else None
        audio = container.add_stream("aac", rate=48000, layout="mono") if has_audio else None
        if video is not None:
            container.mux(_encode_frames(video, path))
        if audio is not None:
            container.mux(_encode_sound(audio, path))
    return buffer.getvalue()


def _encode_frames(stream: Any, path: Path) -> list[Any]:
    frames = load_frames(path, fps=PREVIEW_FPS, end=PREVIEW_SECONDS).pixels
    height, width = frames.shape[1:3]
    scale = min(1.0, POSTER_WIDTH / width)
    stream.width, stream.height = (2 * max(1, round(side * scale / 2)) for side in (width, height))
    stream.pix_fmt = "yuv420p"
    pictures = [av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24") for pixels in frames]
    return [packet for picture in (*pictures, None) for packet in stream.encode(picture)]


def _encode_sound(stream: Any, path: Path) -> list[Any]:
    frame = av.AudioFrame.from_ndarray(load_audio(path, end=PREVIEW_SECONDS)[None], "fltp", "mono")
    frame.sample_rate, frame.time_base, frame.pts = 48000, Fraction(1, 48000), 0
    return [*stream.encode(frame), *stream.encode(None)]


def _address(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
