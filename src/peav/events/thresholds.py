"""A threshold for every label, fitted on recordings in which people marked the events; settings as files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from peav.errors import EventsError
from peav.events.postprocess import Postprocessing, median_filter, median_frames
from peav.events.types import FrameScores, frame_targets
from peav.types import POSTPROCESSING, Event
from peav.utils.checks import number
from peav.utils.storage import write_all
from peav.utils.text import counted, parse_json, read_text

LOWEST = 0.01
"""Of the thresholds that are believed: above lower ones nearly everything sounds."""


def fit_thresholds(
    scores: Iterable[FrameScores], events: Iterable[Sequence[Event]], median: float = 0.0
) -> dict[str, float]:
    """For each label the threshold at which the F1 of its frames, pooled over the recordings, is highest.

    Args:
        scores: of each recording, all with the same labels.
        events: that were marked in each recording, in the same order; labels that were not scored are left out.
        median: seconds over which probabilities are median-filtered first, as in `Postprocessing`.

    Returns:
        label -> threshold, half-way between the lowest probability that is kept and the next one below it (0 where
        there is none). Of thresholds with equal F1 the highest, which keeps the fewest frames: none at all where no
        marked frame has a probability above 0. Labels that are marked nowhere cannot be fitted and are missing.

    Raises:
        EventsError: recordings that differ in their labels or in number.
    """
    names: tuple[str, ...] | None = None
    values: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    for one, marked in zip(scores, events, strict=True):
        names = names or one.labels
        if one.labels != names:
            raise EventsError(f"recordings scored for {', '.join(names)} and for {', '.join(one.labels)}; use one list")
        frames = median_frames(median, one.frame)
        rows = [median_filter(row, frames) for row in one.probabilities]
        values.append(np.stack(rows) if rows else one.probabilities)
        targets.append(frame_targets(marked, names, one.edges))
    if names is None:
        return {}
    whole, wanted = np.concatenate(values, axis=1), np.concatenate(targets, axis=1)
    return {
        label: best_threshold(row, target)
        for label, row, target in zip(names, whole, wanted, strict=True)
        if target.any()
    }


def doubtful(
    labels: Sequence[str], fitted: Mapping[str, float], events: Iterable[Sequence[Event]], min_events: int = 5
) -> dict[str, str]:
    """The labels whose threshold in `fitted` is not to be believed, and why: `3 events`, `fitted 6e-05`.

    The best threshold of a few events says more of these than of their label, and one below 0.01 comes of scores that
    do not tell the label's frames from others.

    Args:
        events: that were marked in each recording.
    """
    count = Counter(event.label for marked in events for event in marked)
    few = {name: counted(count[name], "event") for name in labels if count[name] < min_events or name not in fitted}
    low = {label: f"fitted {fitted[label]:.2g}" for label in labels if label not in few and fitted[label] < LOWEST}
    return {label: (few | low)[label] for label in labels if label in few or label in low}


def best_threshold(values: np.ndarray, targets: np.ndarray) -> float:
    """The threshold of highest F1 for `values` (n,) against `targets` (n,) bool; see `fit_thresholds`."""
    order = np.argsort(-values, kind="stable")
    ranked = values[order].astype(np.float64)
    # Places after which a threshold fits: the value changes there, and the frame before it is above 0.
    ends = np.flatnonzero(np.append(ranked[:-1] > ranked[1:], True) & (ranked > 0))
    right = np.cumsum(targets[order])[ends]
    if not right.any():
        return float(values.max())
    f1 = 2 * right / (ends + 1 + targets.sum())
    best = ends[int(np.argmax(f1))]  # the first of equals
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + below) / 2)


def write_thresholds(path: Path, thresholds: Mapping[str, float]) -> None:
    """`{"label": threshold}` as JSON."""
    write_all(path, json.dumps(thresholds, indent=2, ensure_ascii=False) + "\n")


def read_thresholds(path: Path) -> dict[str, float]:
    """What `write_thresholds` wrote. Raises EventsError where it is absent or something else."""
    if not path.exists():
        raise EventsError(f"{path}: neither a number nor a file of thresholds; check the path")
    form = 'no thresholds, which are JSON {"label": 0.4}'
    data = parse_json(read_text(path, EventsError), f"{path}: {form}", EventsError)
    if not isinstance(data, dict):
        raise EventsError(f"{path}: {form}")
    try:
        return {label: number(value, f"the threshold of {label!r}") for label, value in data.items()}
    except ValueError as error:
        raise EventsError(f"{path}: {form} ({error})") from error


def write_postprocessing(path: Path, how: Postprocessing) -> None:
    """Settings as JSON."""
    write_all(path, json.dumps(asdict(how), indent=2, ensure_ascii=False) + "\n")


def read_postprocessing(path: Path) -> Postprocessing:
    """What `write_postprocessing` wrote. Raises EventsError where it is something else."""
    data = parse_json(read_text(path, EventsError), f"{path}: no settings of postprocessing", EventsError)
    return as_postprocessing(data, str(path))


def as_postprocessing(data: Any, where: str) -> Postprocessing:
    """Settings out of plain data. Raises EventsError that begins `where`."""
    try:
        return Postprocessing(**data)
    except (TypeError, ValueError) as error:
        raise EventsError(f"{where}: no settings of postprocessing ({error}); correct {POSTPROCESSING}") from error
