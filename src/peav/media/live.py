"""Sound that is still coming, through a pipe: bare samples, or any format that can be read from its beginning on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from peav.errors import ZeroLengthError
from peav.media.audio import Reader
from peav.media.resample import Waveform, check_finite
from peav.media.source import open_pipe
from peav.media.streams import audio_stream

BLOCK = 1 << 16  # bytes that are read at once, at most


def iter_samples(pipe: int) -> Iterator[np.ndarray]:
    """Blocks of samples (S,) int16 as they come through a pipe: little-endian, mono. Half a sample at the end is left
    out. Raises ZeroLengthError where none came.
    """
    rest, count = b"", 0
    while data := os.read(pipe, BLOCK):
        rest += data
        whole = len(rest) & ~1
        yield np.frombuffer(rest[:whole], "<i2")
        rest, count = rest[whole:], count + whole
    if not count:
        raise ZeroLengthError("stdin: nothing came; check what writes to the pipe")


def iter_pipe(pipe: int, sampling_rate: int = 48000) -> Iterator[Waveform]:
    """The audio of what comes through a pipe, as blocks (S,) float32, mono, each as soon as it can be had.

    They are the samples that `iter_audio` gives of the same file. MP3 alone keeps what its encoder padded its end with,
    some hundredths of a second.

    Raises:
        MediaError: nothing that can be read as it comes; an MP4 with its index at the end is such a thing.
    """
    with open_pipe(pipe) as container:
        reader = Reader(b"", sampling_rate, live=True)
        stream = audio_stream(container, reader.name)
        for _, samples in reader.read(container, stream, [stream]):
            check_finite(samples, reader.name)
            yield samples
