"""From frame probabilities to events: median filter, threshold with hysteresis, minimum gap, minimum length.

Pure functions on arrays of frames, and `find_events`, which applies them in the order above.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from peav.events.types import FrameScores
from peav.types import Event

THRESHOLD = 0.3
"""The released models' own threshold."""
_MEDIAN_BLOCK = 1 << 20  # values sorted at once


@dataclass(frozen=True)
class Postprocessing:
    """How probabilities become events. The defaults are the released models': a threshold and nothing else.

    Attributes:
        threshold: a frame is active where its probability is above it; one for all labels, or one per label (labels
            that the mapping lacks take 0.3).
        low: hysteresis, as a share of the threshold: an event that somewhere exceeds its threshold goes on to both
            sides for as long as it stays above `low * threshold`. 1: plain threshold.
        median: seconds over which probabilities are median-filtered first, rounded to an odd number of frames. 0: not.
        min_gap: seconds; events of a label with a shorter pause between them are one.
        min_length: seconds; shorter events are dropped, after the gaps are closed.

    Raises:
        ValueError: a value that makes no sense.
    """

    threshold: float | Mapping[str, float] = THRESHOLD
    low: float = 1.0
    median: float = 0.0
    min_gap: float = 0.0
    min_length: float = 0.0

    def __post_init__(self) -> None:
        values = self.threshold.values() if isinstance(self.threshold, Mapping) else [self.threshold]
        if not all(0 <= value <= 1 for value in values):
            raise ValueError(f"threshold={self.threshold}: thresholds are probabilities, from 0 to 1")
        if not 0 < self.low <= 1:
            raise ValueError(f"low={self.low}: the share of the threshold that ends an event is above 0 and at most 1")
        for name in ("median", "min_gap", "min_length"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}: give seconds, 0 for none")

    def threshold_of(self, label: str) -> float:
        """The threshold of one label."""
        return self.threshold.get(label, THRESHOLD) if isinstance(self.threshold, Mapping) else self.threshold


def find_events(scores: FrameScores, how: Postprocessing | None = None) -> list[Event]:
    """The events of a recording, by onset, then in the order of the labels; none ends past the recording."""
    how = how or Postprocessing()
    edges = scores.edges
    found: list[Event] = []
    for label, row in zip(scores.labels, scores.probabilities, strict=True):
        high = how.threshold_of(label)
        active = hysteresis(median_filter(row, median_frames(how.median, scores.frame)), high, how.low * high)
        active = close_gaps(active, _frames(how.min_gap, scores.frame))
        active = drop_short(active, _frames(how.min_length, scores.frame))
        for start, stop in runs(active):
            onset, offset, score = float(edges[start]), float(edges[stop]), float(row[start:stop].max())
            found.append(Event(label, onset=onset, offset=offset, score=score))
    return sorted(found, key=lambda event: event.onset)  # stable: labels keep their order


def runs(active: np.ndarray) -> np.ndarray:
    """(R, 2) int: first frame and the frame after the last of every run of true values in `active` (T,)."""
    changes = np.diff(active.astype(np.int8), prepend=0, append=0)
    return np.stack([np.flatnonzero(changes > 0), np.flatnonzero(changes < 0)], axis=1)


def median_filter(values: np.ndarray, frames: int) -> np.ndarray:
    """The median of the `frames` (odd) frames around each of `values` (T,); the ends are repeated outwards.

    Raises:
        ValueError: an even number of frames.
    """
    if frames % 2 == 0:
        raise ValueError(f"a median over {frames} frames has no middle: give an odd number")
    if frames == 1 or not len(values):
        return values
    padded = np.pad(values, frames // 2, mode="edge")
    block = max(1, _MEDIAN_BLOCK // frames)
    parts = [
        np.median(sliding_window_view(padded[at : at + block + frames - 1], frames), axis=-1)
        for at in range(0, len(values), block)
    ]
    return np.concatenate(parts).astype(values.dtype)


def median_frames(seconds: float, frame: float) -> int:
    """The odd number of frames nearest to `seconds`; 1 (no filter) for 0."""
    return 2 * round((seconds / frame - 1) / 2) + 1 if seconds > frame else 1


def hysteresis(values: np.ndarray, high: float, low: float) -> np.ndarray:
    """(T,) bool: runs of frames above `low` that somewhere exceed `high`; with `low >= high`: frames above `high`."""
    # As float64: a threshold between two neighboring float32 probabilities must not be rounded onto one of them.
    values = values.astype(np.float64)
    if low >= high:
        return values > high
    active = np.zeros(len(values), dtype=bool)
    for start, stop in runs(values > low):
        active[start:stop] = values[start:stop].max() > high
    return active


def close_gaps(active: np.ndarray, frames: int) -> np.ndarray:
    """`active` (T,) with pauses of fewer than `frames` frames between two runs filled."""
    closed = active.copy()
    found = runs(active)
    for stop, start in zip(found[:-1, 1], found[1:, 0], strict=True):
        closed[stop:start] |= start - stop < frames
    return closed


def drop_short(active: np.ndarray, frames: int) -> np.ndarray:
    """`active` (T,) without the runs of fewer than `frames` frames."""
    kept = active.copy()
    for start, stop in runs(active):
        kept[start:stop] &= stop - start >= frames
    return kept


def _frames(seconds: float, frame: float) -> int:
    """The fewest frames that last at least `seconds`."""
    # 0.28 / 0.04 is a little over 7 in floats.
    return math.ceil(seconds / frame - 1e-6)
