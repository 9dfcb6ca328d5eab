"""Polyphonic sound detection score (arXiv 1910.08440), exact over all thresholds, through sed_scores_eval."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from peav.eval.detection import Events, Scores, scored_labels
from peav.eval.metrics import MetricError
from peav.events import Event

# DCASE's two scenarios: quick reaction, and telling sounds apart.
SCENARIOS: dict[str, dict[str, Any]] = {
    "psds1": {"dtc_threshold": 0.7, "gtc_threshold": 0.7, "cttc_threshold": None, "alpha_ct": 0.0, "alpha_st": 1.0},
    "psds2": {"dtc_threshold": 0.1, "gtc_threshold": 0.1, "cttc_threshold": 0.3, "alpha_ct": 0.5, "alpha_st": 1.0},
}


def psds(scores: Scores, truth: Events) -> dict[str, float]:
    """`{"psds1": ..., "psds2": ...}` with at most 100 false alarms an hour, over the labels that have events.

    NaN where no label has any. Overlapping or touching events of one label count as one, as the score demands.

    Raises:
        MetricError: sed_scores_eval is not installed; scores as for `peav.eval.detection.frame_auroc`.
    """
    evaluator = _evaluator()
    labels = [
        label for label in scored_labels(scores, truth) if any(e.label == label for es in truth.values() for e in es)
    ]
    if not labels:
        return dict.fromkeys(SCENARIOS, math.nan)
    tables, events, durations = {}, {}, {}
    for name, one in scores.items():
        rows = np.stack([one.row(label) for label in labels], axis=1).astype(np.float64)
        tables[name] = evaluator.base_modules.scores.create_score_dataframe(rows, one.edges, labels)
        events[name] = merged([event for event in truth.get(name, ()) if event.label in labels])
        durations[name] = one.duration
    found = {}
    for scenario, settings in SCENARIOS.items():
        if len(labels) == 1:  # nothing to be mistaken for, which the evaluator does not expect
            settings = settings | {"cttc_threshold": None, "alpha_ct": 0.0}
        value, *_ = evaluator.intersection_based.psds(tables, events, durations, **settings, max_efpr=100.0)
        found[scenario] = float(value)
    return found


def merged(events: Sequence[Event]) -> list[tuple[float, float, str]]:
    """(onset, offset, label) with the overlapping and touching events of a label joined."""
    joined: list[list[Any]] = []
    for event in sorted(events, key=lambda e: (e.label, e.onset)):
        if joined and joined[-1][2] == event.label and event.onset <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], event.offset)
        else:
            joined.append([event.onset, event.offset, event.label])
    return [(onset, offset, label) for onset, offset, label in joined]


def _evaluator() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages below it that are out of date
            import sed_scores_eval
    except ImportError as error:
        raise MetricError(f"PSDS needs sed_scores_eval ({error}): pip install 'peav[sed]'") from error
    return sed_scores_eval
