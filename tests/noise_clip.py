"""A file of noise and moving squares, for tests that need real media of known streams."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE, FPS = 48000, 10


def write_clip(path: Path, seconds: float, seed: int, *, sound: bool = True, pictures: bool = True) -> Path:
    """A file of noise of its own color and of moving squares."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        if pictures:
            stream = container.add_stream("libx264", rate=FPS)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
        if sound:
            codec = "pcm_s16le" if path.suffix == ".wav" else "aac"
            track = container.add_stream(codec, rate=RATE, layout="mono")
        if pictures:
            for _ in range(round(seconds * FPS)):
                picture = np.kron(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        if sound:
            tone = np.sin(2 * np.pi * (200 + 97 * seed) * np.arange(round(seconds * RATE)) / RATE)
            samples = (8000 * tone + 2000 * rng.normal(size=tone.shape)).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            container.mux(track.encode(frame))
            container.mux(track.encode())
    return path
