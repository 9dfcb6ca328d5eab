"""Fitted thresholds beside trying every one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peav.errors import EventsError
from peav.events import Event, FrameScores, Postprocessing, find_events, frame_targets
from peav.events.postprocess import median_filter
from peav.events.thresholds import (
    best_threshold,
    doubtful,
    fit_thresholds,
    read_postprocessing,
    write_postprocessing,
)

VALUES = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1, width=32), st.booleans()))


def f1(values: np.ndarray, targets: np.ndarray, threshold: float) -> float:
    active = values.astype(np.float64) > threshold
    return 2 * (active & targets).sum() / max(active.sum() + targets.sum(), 1)


@given(VALUES.filter(len))
def test_no_threshold_gives_a_higher_f1_and_no_higher_one_the_same(pairs: list[tuple[float, bool]]) -> None:
    values = np.array([value for value, _ in pairs], np.float32)
    targets = np.array([target for _, target in pairs])
    best = best_threshold(values, targets)
    levels = np.unique(np.append(values.astype(np.float64), 0.0))
    tries = {float(level): f1(values, targets, float(level)) for level in levels}
    if targets.any() and values.max() > 0:
        assert f1(values, targets, best) == max(tries.values())
        assert all(value < max(tries.values()) for level, value in tries.items() if level > best)


def test_recordings_are_pooled_and_labels_without_events_left_out() -> None:
    scores = [
        FrameScores(("dog", "cat"), np.array([[0.9, 0.9, 0.2], [0.5, 0.5, 0.5]], np.float32), 0.12),
        FrameScores(("dog", "cat"), np.array([[0.6, 0.4], [0.5, 0.5]], np.float32), 0.08),
    ]
    marked = [[Event("dog", 0.0, 0.08), Event("owl", 0.0, 1.0)], [Event("dog", 0.0, 0.04)]]
    thresholds = fit_thresholds(scores, marked)
    assert thresholds == {"dog": pytest.approx(0.5)}
    for one, events in zip(scores, marked, strict=True):
        found = find_events(one, Postprocessing(thresholds))
        ours, theirs = (frame_targets(side, ["dog"], one.edges) for side in (found, events))
        assert np.array_equal(ours, theirs)


def test_thresholds_between_neighbouring_floats_hold() -> None:
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    scores = FrameScores(("dog",), np.array([[low, high]]), 0.08)
    thresholds = fit_thresholds([scores], [[Event("dog", 0.04, 0.08)]])
    assert [e.onset for e in find_events(scores, Postprocessing(thresholds))] == [0.04]


def test_a_median_filters_before_the_fit() -> None:
    row = np.array([0.0, 0.9, 0.0, 0.8, 0.7, 0.6, 0.0, 0.0], np.float32)
    scores, marked = FrameScores(("dog",), row[None], 0.32), [Event("dog", 0.0, 0.16)]
    filtered = FrameScores(("dog",), median_filter(row, 3)[None], 0.32)
    assert fit_thresholds([scores], [marked], median=0.12) == fit_thresholds([filtered], [marked])
    assert fit_thresholds([scores], [marked], median=0.12) != fit_thresholds([scores], [marked])


def test_thresholds_of_few_events_or_near_zero_are_doubtful() -> None:
    marked = [[Event("dog", 0, 1)] * 3 + [Event("cat", 0, 1)] * 5, [Event("owl", 0, 1)] * 9]
    fitted = {"dog": 0.4, "cat": 0.4, "owl": 6e-5}
    found = doubtful(["cow", "dog", "cat", "owl"], fitted, marked)
    assert found == {"cow": "0 events", "dog": "3 events", "owl": "fitted 6e-05"}
    assert doubtful(["dog", "cat"], fitted, marked, min_events=3) == {}


def test_settings_are_read_as_they_were_written_and_others_refused(tmp_path: Path) -> None:
    path, how = tmp_path / "postprocessing.json", Postprocessing({"dog": 0.4, "träne": 0.1}, 0.5, median=0.76)
    write_postprocessing(path, how)
    assert read_postprocessing(path) == how
    for wrong in ('{"threshold": 2}', '{"treshold": 0.2}', '{"median": "long"}', "[]", '"a"', "{", '{"low": NaN}'):
        path.write_text(wrong)
        with pytest.raises(EventsError, match=r"postprocessing\.json"):
            read_postprocessing(path)


def test_nothing_to_fit() -> None:
    assert fit_thresholds([], []) == {}
    silent = FrameScores(("dog",), np.zeros((1, 2), np.float32), 0.08)
    assert fit_thresholds([silent], [[]]) == {}
    assert fit_thresholds([silent], [[Event("dog", 0, 1)]]) == {"dog": 0.0}
    with pytest.raises(ValueError, match="one list"):
        fit_thresholds([silent, FrameScores(("cat",), np.zeros((1, 2), np.float32), 0.08)], [[], []])
