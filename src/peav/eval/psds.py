"""Polyphonic sound detection score (arXiv 1910.08440), exact over all thresholds.

The counts at every threshold come in one pass over a recording's frames, from the highest score down: a frame begins a
detection, makes one longer or joins two, so there are at most as many detections over all thresholds as frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from peav.errors import EvaluationError
from peav.eval.detection import Events, Scores, scored_labels
from peav.events import Event

MAX_RATE = 100.0  # false alarms an hour up to which the curve counts
DECIMALS = 6  # of a second: so that 0.7 of an event that is covered to 0.7 is enough, however floats fall


@dataclass(frozen=True)
class Scenario:
    """What counts: a detection that lies within events of its label for a share `dtc` of its length (else it is a false
    alarm), an event that such detections cover for a share `gtc`, a false alarm that lies within events of another
    label for a share `cttc` (None: no matter).

    `cross` is what those cost beside false alarms, `spread` what the standard deviation over the labels costs.
    """

    dtc: float
    gtc: float
    cttc: float | None = None
    cross: float = 0.0
    spread: float = 1.0


# DCASE's two: quick reaction, and telling sounds apart.
SCENARIOS = {"psds1": Scenario(0.7, 0.7), "psds2": Scenario(0.1, 0.1, cttc=0.3, cross=0.5)}


def psds(scores: Scores, truth: Events) -> dict[str, float]:
    """`{"psds1": ..., "psds2": ...}` with at most 100 false alarms an hour, over the labels that have events.

    NaN where no label has any. Overlapping or touching events of one label count as one, as the score demands.

    Raises:
        EvaluationError: scores that are NaN; scores as for `peav.eval.detection.frame_auroc`.
    """
    spans = {
        label: {name: merged(truth.get(name, ()), label) for name in scores} for label in scored_labels(scores, truth)
    }
    labels = [label for label, events in spans.items() if any(map(len, events.values()))]
    if not labels:
        return dict.fromkeys(SCENARIOS, math.nan)
    seconds: float = sum(one.duration for one in scores.values())
    steps: dict[str, list[list[Any]]] = {name: [[] for _ in labels] for name in SCENARIOS}
    for name, one in scores.items():
        here = [spans[label][name] for label in labels]
        for place, label in enumerate(labels):
            detections = _detections(one.row(label), one.edges, f"{name}, {label}")
            others = here[:place] + here[place + 1 :]
            for scenario, settings in SCENARIOS.items():
                steps[scenario][place].append(_steps(detections, here[place], others, settings))
    events = [sum(len(rows) for rows in spans[label].values()) for label in labels]
    lengths = [sum(float(end - start) for rows in spans[label].values() for start, end in rows) for label in labels]
    found = {}
    for scenario, settings in SCENARIOS.items():
        curves = [
            _curve(steps[scenario][place], events[place], lengths[:place] + lengths[place + 1 :], seconds, settings)
            for place in range(len(labels))
        ]
        found[scenario] = _area(curves, settings)
    return found


def merged(events: Sequence[Event], label: str) -> np.ndarray:
    """(n, 2) onsets and offsets of a label's events, overlapping and touching ones joined."""
    joined: list[list[float]] = []
    for onset, offset in sorted((event.onset, event.offset) for event in events if event.label == label):
        if joined and onset <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], offset)
        else:
            joined.append([onset, offset])
    return np.array(joined, np.float64).reshape(-1, 2)


@dataclass(frozen=True)
class _Detections:
    """All that a recording's frames are joined to as the threshold falls: D runs of frames over L distinct scores.

    Attributes:
        scores: (L,) descending.
        onsets, offsets: (D,) seconds.
        made, gone: (D,) the place in `scores` at which a run is there, and at which it is part of another.
    """

    scores: np.ndarray
    onsets: np.ndarray
    offsets: np.ndarray
    made: np.ndarray
    gone: np.ndarray


def _detections(row: np.ndarray, edges: np.ndarray, where: str) -> _Detections:
    """The runs of frames of a row of scores (T,) with edges (T + 1,) in seconds."""
    if np.isnan(row).any():
        raise EvaluationError(f"{where}: {int(np.isnan(row).sum())} frame scores are NaN")
    scores, level_of = np.unique(row.astype(np.float64), return_inverse=True)
    level_of = len(scores) - 1 - level_of  # 0 is the highest
    frames = np.split(np.argsort(level_of, kind="stable"), np.cumsum(np.bincount(level_of))[:-1])
    end_of: dict[int, int] = {}
    start_of: dict[int, int] = {}
    known: dict[int, int] = {}  # by where it starts, the row of a run in the table
    runs: list[list[int]] = []  # start, end, made, gone
    for level, members in enumerate(frames):
        touched: set[int] = set()
        for frame in members.tolist():
            # The run that ends where this frame begins and the one that begins where it ends become one with it.
            start, end = start_of.pop(frame, frame), end_of.pop(frame + 1, frame + 1)
            end_of[start], start_of[end] = end, start
            touched |= {start, frame + 1}
        for start in touched:
            if start in known:
                runs[known.pop(start)][3] = level
            if start in end_of:
                known[start] = len(runs)
                runs.append([start, end_of[start], level, len(scores)])
    table = np.array(runs, np.int64).reshape(-1, 4).T
    return _Detections(scores[::-1], edges[table[0]], edges[table[1]], table[2], table[3])


def _steps(
    found: _Detections, events: np.ndarray, others: Sequence[np.ndarray], settings: Scenario
) -> tuple[np.ndarray, np.ndarray]:
    """What changes as the threshold falls to each score of a recording.

    Args:
        events: (n, 2) of the label; others: of each other label.

    Returns:
        `(scores, changes)`, (L,) and (L, 2 + others): of the events that are hit, of the false alarms, and of the false
        alarms within each other label's events.
    """
    lengths = found.offsets - found.onsets
    relevant = _within(found, events) >= np.round(settings.dtc * lengths, DECIMALS)
    hits = np.zeros(len(found.scores), np.int64)
    for onset, offset in events:
        covered = np.round(_sums(found, relevant * _overlap(found, onset, offset)), DECIMALS)
        hits += covered >= np.round(settings.gtc * (offset - onset), DECIMALS)
    columns = [hits, _sums(found, ~relevant)]
    for spans in others if settings.cttc is not None else ():
        inside = ~relevant * _within(found, spans)
        crosses = (
            (inside >= np.round(settings.cttc * lengths, DECIMALS)) if len(spans) else np.zeros(len(lengths), bool)
        )
        columns.append(_sums(found, crosses))
    return found.scores, np.diff(np.stack(columns, axis=1), axis=0, prepend=0)


def _overlap(found: _Detections, onset: float, offset: float) -> np.ndarray:
    """(D,) seconds that each run has in common with a span."""
    return np.maximum(np.minimum(found.offsets, offset) - np.maximum(found.onsets, onset), 0.0)


def _within(found: _Detections, spans: np.ndarray) -> np.ndarray:
    """(D,) seconds of each run that lie within the spans."""
    return np.round(sum((_overlap(found, *span) for span in spans), np.zeros(len(found.onsets))), DECIMALS)


def _sums(found: _Detections, values: np.ndarray) -> np.ndarray:
    """(L,) sum of a value (D,) over the runs that are there at each score."""
    # Differences where runs begin and end, summed up once: no loop over thresholds.
    change = np.zeros(len(found.scores) + 1, np.int64 if values.dtype == bool else np.float64)
    np.add.at(change, found.made, values)
    np.subtract.at(change, found.gone, values.astype(change.dtype))
    return np.cumsum(change[:-1])


def _curve(
    steps: Sequence[tuple[np.ndarray, np.ndarray]],
    events: int,
    lengths: Sequence[float],
    seconds: float,
    settings: Scenario,
) -> tuple[np.ndarray, np.ndarray]:
    """A label's ROC: `(rates, shares)`: false alarms an hour, ascending, and the best share of events hit up to each.

    Args:
        events: how many the label has; lengths: seconds of the events of each other label; seconds: of all recordings.
    """
    scores = np.concatenate([scores for scores, _ in steps])
    changes = np.concatenate([changes for _, changes in steps])
    _, level = np.unique(-scores, return_inverse=True)
    counts = np.zeros((level.max(initial=-1) + 2, changes.shape[1]))  # the first: no threshold is as high
    np.add.at(counts, level + 1, changes)
    hits, false, *crosses = np.cumsum(counts, axis=0).T
    rates = false / seconds
    if crosses:
        rates = rates + settings.cross * np.mean([n / s for n, s in zip(crosses, lengths, strict=True)], axis=0)
    rates *= 3600.0
    shares = hits / events
    order = np.lexsort((shares, rates))
    rates, shares = rates[order], np.maximum.accumulate(shares[order])
    last = np.append(rates[1:] > rates[:-1], True)  # of equal rates the best
    kept = last & (rates <= MAX_RATE)
    return rates[kept], shares[kept]


def _area(curves: Sequence[tuple[np.ndarray, np.ndarray]], settings: Scenario) -> float:
    """The area under the labels' mean ROC less its spread, from 0 to `MAX_RATE`, as a share."""
    rates = np.unique(np.concatenate([rates for rates, _ in curves]))
    shares = [shares[np.searchsorted(own, rates, side="right") - 1] for own, shares in curves]  # each begins at rate 0
    heights = np.maximum(np.mean(shares, axis=0) - settings.spread * np.std(shares, axis=0), 0.0)
    widths = np.diff(np.append(rates, MAX_RATE))
    return float(sum(heights * widths) / MAX_RATE)
