"""Perceptual hashes of sound and pictures, for finding clips that are the same but for their encoding."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from peav.engine.clip import Answer, Clip, Sample
from peav.engine.stage import Stage

BITS = 256  # of each hash
RATE = 48000
WINDOW, HOP = 4096, 2048  # samples of a spectrum
PARTS = BANDS = 17  # in time and in pitch; their differences are 16 x 16
LOW, HIGH = 100.0, 8000.0  # hertz, what every codec keeps
FAINT = 1e-7  # mean square, -70 dB: below it a hash would be one of the codec's noise
FRAMES, SIDE = 4, 8  # frames of a clip, bits a side of each
FLAT = 4.0  # of 255: a frame whose parts differ by less shows nothing


@dataclass
class Hashes(Stage):
    """Measures `hashes`: of the sound and of the frames, 64 hex digits each; None where there is nothing to tell by.

    `peav.engine.duplicates` compares them over the whole run.
    """

    name: str = "hashes"
    needs: ClassVar[frozenset[str]] = frozenset({"audio", "video"})

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer | Exception]]:
        """Hash each clip."""
        for place, sample in enumerate(batch):
            assert sample.media is not None
            sound, frames = sample.media.waveform, sample.media.frames
            yield (
                place,
                Answer(
                    {
                        "audio": None if sound is None else audio_hash(sound),
                        "frames": None if frames is None else frames_hash(frames),
                    }
                ),
            )

    def apply(self, clip: Clip, value: Any) -> None:
        """Keep the hashes."""
        clip.measures["hashes"] = value


def audio_hash(waveform: np.ndarray) -> str | None:
    """Whether each of 16 steps in pitch grows or shrinks at each of 16 steps in time (Haitsma and Kalker, 2002).

    Loudness and coding change few of the bits. `waveform` is (S,) at 48 kHz; None where it is too short or too faint.
    """
    count = 1 + (len(waveform) - WINDOW) // HOP
    if count < PARTS or float(np.mean(np.square(waveform))) < FAINT:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(waveform, WINDOW)[::HOP]  # (n, WINDOW), a view
    edges = np.searchsorted(np.fft.rfftfreq(WINDOW, 1 / RATE), np.geomspace(LOW, HIGH, BANDS + 1))
    bounds = np.linspace(0, count, PARTS + 1).astype(int)
    shape = np.hanning(WINDOW).astype(np.float32)
    power = np.empty((PARTS, BANDS))
    for part, (first, last) in enumerate(itertools.pairwise(bounds)):
        spectrum = np.square(np.abs(np.fft.rfft(windows[first:last] * shape))).mean(0)
        power[part] = np.add.reduceat(spectrum[: edges[-1]], edges[:-1])
    steps = np.diff(np.log(power + 1e-9), axis=1)
    return _hex(np.diff(steps, axis=0) > 0)


def frames_hash(frames: np.ndarray) -> str | None:
    """The 64-bit dHash of four frames, evenly over the clip: whether each part is brighter than the one on its left.

    `frames` is (N, H, W, 3) uint8; None where all are of one color.
    """
    chosen = frames[np.linspace(0, len(frames) - 1, FRAMES).astype(int)]
    parts = np.stack([_parts(frame) for frame in chosen])
    if np.ptp(parts, axis=(1, 2)).max() < FLAT:
        return None
    return _hex(np.diff(parts, axis=2) > 0)


def _parts(frame: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> mean luma of 8 x 9 parts."""
    luma = frame @ np.array([0.299, 0.587, 0.114], np.float32)
    rows, columns = (np.linspace(0, n, k + 1).astype(int) for n, k in zip(luma.shape, (SIDE, SIDE + 1), strict=True))
    sums = np.add.reduceat(np.add.reduceat(luma, rows[:-1], axis=0), columns[:-1], axis=1)
    return sums / np.outer(np.diff(rows), np.diff(columns))


def _hex(bits: np.ndarray) -> str:
    return np.packbits(bits.ravel()).tobytes().hex()
