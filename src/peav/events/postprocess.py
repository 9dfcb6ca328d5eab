"""From frame probabilities to events: median filter, threshold with hysteresis, minimum gap, minimum length.

Pure functions on arrays of frames; `EventStream`, which applies them in the order above to frames that are still
coming; and `find_events`, which does so to those of a whole recording.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from peav.events.types import FrameScores
from peav.types import FRAME, Event

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
            raise ValueError(f"threshold {self.threshold}: thresholds are probabilities, from 0 to 1")
        if not 0 < self.low <= 1:
            raise ValueError(f"low {self.low}: the share of the threshold that ends an event is above 0 and at most 1")
        for name in ("median", "min_gap", "min_length"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}: give seconds, 0 for none")

    def threshold_of(self, label: str) -> float:
        """The threshold of one label."""
        return self.threshold.get(label, THRESHOLD) if isinstance(self.threshold, Mapping) else self.threshold

    def adjusted(
        self,
        labels: Iterable[str],
        threshold: float | Mapping[str, float] | None = None,
        *,
        low: float | None = None,
        median: float | None = None,
        min_gap: float | None = None,
        min_length: float | None = None,
    ) -> Postprocessing:
        """The same with what is given in place of its own. `labels` that a mapping lacks keep their own threshold."""
        if isinstance(threshold, Mapping):
            threshold = {label: self.threshold_of(label) for label in labels} | dict(threshold)
        given = {"threshold": threshold, "low": low, "median": median, "min_gap": min_gap, "min_length": min_length}
        return replace(self, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def find_events(scores: FrameScores, how: Postprocessing | None = None) -> list[Event]:
    """The events of one recording, by onset; `how` None: the defaults.

    An event's score is its highest probability. Its times are those of frames' edges; no event ends past the recording.
    """
    return EventStream(scores.labels, how, scores.frame).finish(scores.probabilities, scores.duration)


class EventStream:
    """Events of a recording that is still going on.

    Whatever frames come at a time, all events that come back are, together, those of `find_events` on all frames. An
    event comes back when no later frame can change it: it has ended, half the median and `min_gap` have passed since,
    and what follows is not above `low * threshold` in one run that may yet become an event.

    Args:
        labels: the names of the rows.
        how: from probabilities to events; None: the defaults.
        frame: seconds from one frame to the next.
    """

    def __init__(self, labels: Sequence[str], how: Postprocessing | None = None, frame: float = FRAME) -> None:
        self._rows = [_Row(label, how or Postprocessing(), frame) for label in labels]

    def push(self, probabilities: np.ndarray) -> list[Event]:
        """The next frames, (labels, T); returns the events that are settled now, by onset."""
        return self._next(probabilities, None)

    def finish(self, probabilities: np.ndarray, duration: float) -> list[Event]:
        """The last frames, (labels, T), and the recording's length in seconds; returns the events that are left."""
        return self._next(probabilities, duration)

    def _next(self, probabilities: np.ndarray, duration: float | None) -> list[Event]:
        found = [e for row, new in zip(self._rows, probabilities, strict=True) for e in row.push(new, duration)]
        return sorted(found, key=lambda event: event.onset)  # stable: labels keep their order


class _Row:
    """One label's frames, held from the first one on that may belong to an event which is not settled."""

    def __init__(self, label: str, how: Postprocessing, frame: float) -> None:
        self.label, self.frame = label, frame
        self.high = how.threshold_of(label)
        self.low = how.low * self.high
        self.median = median_frames(how.median, frame)
        self.gap, self.shortest = max(1, _frames(how.min_gap, frame)), _frames(how.min_length, frame)
        self.begin = 0  # place of the first frame that is held
        self.values = self.filtered = np.empty(0, np.float32)  # the latter as far as the median reaches
        self.context: np.ndarray | None = None  # the values before those that the median has yet to give

    def push(self, new: np.ndarray, duration: float | None) -> list[Event]:
        """The next frames, (T,); with a `duration`, in seconds, they are the last."""
        self._filter(new, last=duration is not None)
        active = close_gaps(hysteresis(self.filtered, self.high, self.low), self.gap)
        found, known = runs(active), len(active)
        if duration is None:
            # A run that goes on may turn out to be an event from its beginning, or to close a gap.
            known = self._open_run()
            pending = found[found[:, 1] + self.gap > known]
            known = min([known, *pending[:, 0].tolist()])
        settled = runs(drop_short(active[:known], self.shortest))
        events = [self._event(start, stop, duration) for start, stop in settled.tolist()]
        self.values, self.filtered, self.begin = self.values[known:], self.filtered[known:], self.begin + known
        return events

    def _filter(self, new: np.ndarray, *, last: bool) -> None:
        half = self.median // 2
        if self.context is None:
            if not len(new):
                return
            self.context = np.repeat(new[:1], half)
        padded = np.concatenate([self.context, new])
        padded = np.concatenate([padded, np.repeat(padded[-1:], half if last else 0)])
        self.values = np.concatenate([self.values, new])
        self.filtered = np.concatenate([self.filtered, _medians(padded, self.median)])
        self.context = padded[max(0, len(padded) - 2 * half) :]

    def _open_run(self) -> int:
        """Where the run above `low` that the last frame belongs to begins; the end, where it belongs to none."""
        below = np.flatnonzero(self.filtered.astype(np.float64) <= min(self.low, self.high))
        return int(below[-1]) + 1 if len(below) else 0

    def _event(self, start: int, stop: int, duration: float | None) -> Event:
        end = math.inf if duration is None else duration
        onset, offset = (min((self.begin + place) * self.frame, end) for place in (start, stop))
        return Event(self.label, onset=onset, offset=offset, score=float(self.values[start:stop].max()))


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
    if not len(values):
        return values
    return _medians(np.pad(values, frames // 2, mode="edge"), frames)


def _medians(values: np.ndarray, frames: int) -> np.ndarray:
    """(T,) to (T - frames + 1,): the median of every `frames` consecutive values; none where there are fewer."""
    if frames == 1:
        return values
    block = max(1, _MEDIAN_BLOCK // frames)
    parts = [
        np.median(sliding_window_view(values[at : at + block + frames - 1], frames), axis=-1)
        for at in range(0, len(values) - frames + 1, block)
    ]
    return np.concatenate([np.empty(0, values.dtype), *parts]).astype(values.dtype)


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
