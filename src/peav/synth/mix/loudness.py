"""Where a sound is heard: its edges and pauses by loudness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Waveform = NDArray[np.float32]

STEP = 0.01  # seconds between levels; each is of twice that
RANGE = 30.0  # decibels below a sound's loudest that still count as the sound
PAUSE = 0.3  # seconds: a shorter pause is part of the sound
SHORTEST = 0.05  # seconds: a shorter blip is none
SILENCE = -80.0  # dBFS: nothing below this is heard


def level(waveform: Waveform) -> float:
    """The root mean square in dBFS; -inf for silence or nothing."""
    power = float(np.mean(np.square(waveform, dtype=np.float64))) if len(waveform) else 0.0
    return 10 * np.log10(power) if power > 0 else -np.inf


def levels(waveform: Waveform, rate: int) -> NDArray[np.float64]:
    """(ceil(S / step) + 1,) dBFS: the level of the 20 ms around 0, 10, 20 ... ms; none for no samples."""
    hop = round(STEP * rate)
    padded = np.pad(np.square(waveform, dtype=np.float64), (0, -len(waveform) % hop))
    power = padded.reshape(-1, hop).mean(1)
    around = (np.concatenate([power[:1], power]) + np.concatenate([power, power[-1:]])) / 2
    return 10 * np.log10(np.maximum(around, 1e-12))


def heard(waveform: Waveform, rate: int, floor: float = SILENCE) -> list[tuple[float, float]]:
    """Where a sound is within `RANGE` of its loudest and above `floor` dBFS: (start, end) in seconds, in order."""
    loud = levels(waveform, rate)
    if not len(loud):
        return []
    active = loud > max(loud.max() - RANGE, floor, SILENCE)
    changes = np.flatnonzero(np.diff(np.pad(active.astype(np.int8), 1)))
    spans: list[tuple[float, float]] = []
    for start, end in zip((changes[::2] * STEP).tolist(), ((changes[1::2] - 1) * STEP).tolist(), strict=True):
        if spans and start - spans[-1][1] < PAUSE:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    duration = len(waveform) / rate
    return [(start, min(end, duration)) for start, end in spans if end - start >= SHORTEST]
