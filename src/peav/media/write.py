"""Writes audio and video files: every file that peav makes of samples and frames goes through here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal

import av
import numpy as np
from numpy.typing import NDArray

from peav.media.resample import Waveform

RATE = 48_000
_AUDIO_CODECS = {"mp4": "aac", "flac": "flac", "wav": "pcm_s16le"}


def write_media(
    target: Path | BinaryIO,
    format: Literal["mp4", "flac", "wav"],
    *,
    audio: Iterable[Waveform | NDArray[np.int16]] | None = None,
    video: Iterable[NDArray[np.uint8]] | None = None,
    fps: Fraction | int = 25,
    audio_options: Mapping[str, str] | None = None,
    video_options: Mapping[str, str] | None = None,
) -> None:
    """Write a file: H.264 and AAC in mp4, lossless 16 bits in flac and wav. The same input gives the same bytes.

    Args:
        target: a path, or a file open for writing that can seek.
        audio: blocks of (S,) samples at 48 kHz, written as mono; float32 for mp4, int16 for flac and wav.
        video: one or more frames (H, W, 3) uint8 of one size with even sides, for mp4 alone.
        fps: frames a second.
        audio_options: FFmpeg's options of the audio codec, such as `{"b": "64000"}`.
        video_options: FFmpeg's options of the video codec, such as `{"crf": "30"}`.
    """
    place = str(target) if isinstance(target, Path) else target
    options = {"fflags": "+bitexact"} if format == "wav" else {}  # without it, a chunk holds FFmpeg's version
    with av.open(place, "w", format=format, options=options) as file:
        # Both streams are added before the first packet, which writes the header.
        parts: list[tuple[Any, Iterable[Any]]] = []
        if video is not None:
            frames = iter(video)
            first = next(frames)
            # With one thread, since the bytes of H.264 depend on how many there are.
            pictures = file.add_stream("libx264", rate=fps, options={"threads": "1", **(video_options or {})})
            pictures.height, pictures.width = first.shape[:2]
            pictures.pix_fmt = "yuv420p"
            every = chain([first], frames)
            parts.append((pictures, (av.VideoFrame.from_ndarray(pixels, format="rgb24") for pixels in every)))
        if audio is not None:
            sound = file.add_stream(_AUDIO_CODECS[format], rate=RATE, layout="mono", options=dict(audio_options or {}))
            parts.append((sound, _audio_frames(audio)))
        for stream, decoded in parts:
            for frame in chain(decoded, [None]):  # the last has the encoder give what it holds
                file.mux(stream.encode(frame))


def _audio_frames(blocks: Iterable[np.ndarray]) -> Iterator[av.AudioFrame]:
    start = 0
    for block in blocks:
        sample_format = "s16" if block.dtype == np.int16 else "fltp"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block[None]), format=sample_format, layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), start
        start += len(block)
        yield frame
