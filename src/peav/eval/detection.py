"""Metrics of sound event detection: AUROC of frames, F1 of events and of segments, PSDS.

Recordings go by name: scores and events are mappings from it. A recording that a mapping of events lacks has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from peav.errors import EvaluationError
from peav.events import Event, FrameScores, frame_targets
from peav.utils.text import counted

Events = Mapping[str, Sequence[Event]]
Scores = Mapping[str, FrameScores]
SLACK = 1e-9  # seconds: times such as 0.8 - 0.6 are a little off, and the collar is meant to hold its end


@dataclass(frozen=True)
class Counts:
    """Hits, false alarms and misses."""

    hits: int = 0
    false: int = 0
    missed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.hits + other.hits, self.false + other.false, self.missed + other.missed)

    @property
    def f1(self) -> float:
        """NaN where there is nothing to find and nothing was found."""
        total = 2 * self.hits + self.false + self.missed
        return 2 * self.hits / total if total else math.nan

    @property
    def precision(self) -> float:
        """NaN where nothing was found."""
        return self.hits / (self.hits + self.false) if self.hits + self.false else math.nan

    @property
    def recall(self) -> float:
        """NaN where there is nothing to find."""
        return self.hits / (self.hits + self.missed) if self.hits + self.missed else math.nan


def macro(values: Mapping[str, float]) -> float:
    """The mean over labels, those left out that have no value (NaN); NaN where none has one."""
    known = [value for value in values.values() if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def micro(counts: Mapping[str, Counts]) -> Counts:
    """All labels counted together."""
    return sum(counts.values(), Counts())


def auroc(scores: np.ndarray, targets: np.ndarray) -> float:
    """The chance that a frame where it sounds scores higher than one where it does not, ties counting half.

    Args:
        scores: (n,) float. targets: (n,) bool.

    Returns:
        NaN where all targets are alike.

    Raises:
        EvaluationError: scores that are NaN.
    """
    if np.isnan(scores).any():
        raise EvaluationError(f"{int(np.isnan(scores).sum())} frame scores are NaN")
    positive = int(targets.sum())
    negative = len(targets) - positive
    if not positive or not negative:
        return math.nan
    _, group, size = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(size) - (size - 1) / 2  # of each distinct score: the mean of the places that it takes
    # Mann-Whitney U of the frames where it sounds, as a share of all pairs.
    return float((ranks[group][targets].sum() - positive * (positive + 1) / 2) / (positive * negative))


def frame_auroc(scores: Scores, truth: Events) -> dict[str, float]:
    """AUROC of each scored label over the frames of all recordings; NaN for labels that sound always or never.

    Raises:
        EvaluationError: no scores, scores for different labels, a recording with events but without scores.
    """
    labels = scored_labels(scores, truth)
    values, targets = [], []
    for name, one in scores.items():
        values.append(one.probabilities)
        targets.append(frame_targets(truth.get(name, ()), labels, one.edges))
    rows, wanted = np.concatenate(values, axis=1), np.concatenate(targets, axis=1)
    return {label: auroc(row, target) for label, row, target in zip(labels, rows, wanted, strict=True)}


def event_counts(
    found: Events, truth: Events, *, collar: float = 0.2, offset_share: float = 0.2, labels: Sequence[str] | None = None
) -> dict[str, Counts]:
    """Event-based counts of each label, as DCASE defines them.

    An event is a hit where its onset is within `collar` seconds of a true one's, and its offset within `collar` or
    `offset_share` of the true event's length, whichever is more. Each event takes part in one hit; events are paired
    so that there are most hits.

    Args:
        labels: to count; None: every label that occurs on either side.
    """

    def close(event: Event, true: Event) -> bool:
        room = max(collar, offset_share * (true.offset - true.onset))
        return abs(event.onset - true.onset) <= collar + SLACK and abs(event.offset - true.offset) <= room + SLACK

    def count(events: Sequence[Event], true: Sequence[Event]) -> Counts:
        hits = matching([[j for j, other in enumerate(true) if close(event, other)] for event in events])
        return Counts(hits, len(events) - hits, len(true) - hits)

    return _counted(found, truth, labels, count)


def segment_counts(
    found: Events, truth: Events, *, length: float = 1.0, labels: Sequence[str] | None = None
) -> dict[str, Counts]:
    """Segment-based counts of each label: segments of `length` seconds in which it sounds at all, found and true."""

    def segments(events: Sequence[Event]) -> set[int]:
        places: set[int] = set()
        for event in events:
            first = math.floor(event.onset / length + SLACK)
            places.update(range(first, math.ceil(event.offset / length - SLACK)))
        return places

    def count(events: Sequence[Event], true: Sequence[Event]) -> Counts:
        ours, theirs = segments(events), segments(true)
        return Counts(len(ours & theirs), len(ours - theirs), len(theirs - ours))

    return _counted(found, truth, labels, count)


def matching(choices: Sequence[Sequence[int]]) -> int:
    """The most pairs that can be made where item i may be paired with any of `choices[i]`, each at most once."""
    partner: dict[int, int] = {}

    # Augmenting paths: an item takes a free choice, or one whose holder finds another.
    def place(item: int, tried: set[int]) -> bool:
        for choice in choices[item]:
            if choice not in tried:
                tried.add(choice)
                if choice not in partner or place(partner[choice], tried):
                    partner[choice] = item
                    return True
        return False

    return sum(place(item, set()) for item in range(len(choices)))


def _counted(
    found: Events,
    truth: Events,
    labels: Sequence[str] | None,
    count: Callable[[Sequence[Event], Sequence[Event]], Counts],
) -> dict[str, Counts]:
    if labels is None:
        labels = sorted({e.label for side in (found, truth) for events in side.values() for e in events})
    totals = dict.fromkeys(labels, Counts())
    for name in {**truth, **found}:
        for label in labels:
            ours, theirs = ([e for e in side.get(name, ()) if e.label == label] for side in (found, truth))
            totals[label] += count(ours, theirs)
    return totals


def scored_labels(scores: Scores, truth: Events) -> tuple[str, ...]:
    """The labels that all recordings are scored for."""
    if not scores:
        raise EvaluationError("no scores to judge")
    unscored = [name for name, events in truth.items() if events and name not in scores]
    if unscored:
        raise EvaluationError(
            f"{counted(len(unscored), 'recording')} with events but no scores, such as {unscored[0]}; score them, or "
            "judge only those that were found (`peav detect eval --only-found`)"
        )
    labels = next(iter(scores.values())).labels
    for name, one in scores.items():
        if one.labels != labels:
            raise EvaluationError(
                f"{name} is scored for other labels than the recordings before it; score all for the same"
            )
    return labels
