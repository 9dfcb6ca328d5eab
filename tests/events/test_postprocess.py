"""Frames to events: every step beside a formula that walks along the frames."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from peav.events import Event, EventStream, FrameScores, Postprocessing, find_events, frame_targets
from peav.events.postprocess import close_gaps, drop_short, hysteresis, median_filter, median_frames, runs

# Few levels, so that ties with a threshold happen.
VALUES = hnp.arrays(np.float32, st.integers(0, 40), elements=st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0]))
ACTIVE = hnp.arrays(bool, st.integers(0, 40))
LEVEL = st.sampled_from([0.0, 0.1, 0.125, 0.25, 0.3, 0.5, 0.75, 1.0])


def naive_runs(active: list[bool]) -> list[tuple[int, int]]:
    found, start = [], None
    for t, value in enumerate([*active, False]):
        if value and start is None:
            start = t
        elif not value and start is not None:
            found.append((start, t))
            start = None
    return found


@given(active=ACTIVE)
def test_runs_are_maximal(active: np.ndarray) -> None:
    assert [tuple(run) for run in runs(active).tolist()] == naive_runs(active.tolist())


@given(values=VALUES, half=st.integers(0, 6))
def test_the_median_is_over_the_frames_around_with_the_ends_repeated(values: np.ndarray, half: int) -> None:
    last = len(values) - 1
    wanted = [np.median([values[min(max(t + d, 0), last)] for d in range(-half, half + 1)]) for t in range(len(values))]
    assert median_filter(values, 2 * half + 1).tolist() == wanted


def test_the_median_of_a_long_row_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(1000).astype(np.float32)
    whole = median_filter(values, 7)
    monkeypatch.setattr("peav.events.postprocess._MEDIAN_BLOCK", 64)
    assert np.array_equal(median_filter(values, 7), whole)


@pytest.mark.parametrize(("seconds", "frames"), [(0, 1), (0.04, 1), (0.12, 3), (0.1, 3), (0.28, 7), (1.0, 25)])
def test_a_median_in_seconds_is_an_odd_number_of_frames(seconds: float, frames: int) -> None:
    assert median_frames(seconds, 0.04) == frames


@given(values=VALUES, high=LEVEL, low=LEVEL)
def test_hysteresis_grows_from_every_frame_above_high_while_above_low(
    values: np.ndarray, high: float, low: float
) -> None:
    wanted = values > high
    for t in np.flatnonzero(wanted):
        for step in (-1, 1):
            u = t + step
            while 0 <= u < len(values) and values[u] > low:
                wanted[u] = True
                u += step
    assert np.array_equal(hysteresis(values, high, low), wanted)


@given(active=ACTIVE, frames=st.integers(0, 8))
def test_only_pauses_between_runs_that_are_too_short_are_filled(active: np.ndarray, frames: int) -> None:
    wanted = active.tolist()
    for start, stop in naive_runs([not value for value in active]):
        if start > 0 and stop < len(active) and stop - start < frames:
            wanted[start:stop] = [True] * (stop - start)
    assert close_gaps(active, frames).tolist() == wanted


@given(active=ACTIVE, frames=st.integers(0, 8))
def test_only_runs_that_are_too_short_are_dropped(active: np.ndarray, frames: int) -> None:
    wanted = [False] * len(active)
    for start, stop in naive_runs(active.tolist()):
        if stop - start >= frames:
            wanted[start:stop] = [True] * (stop - start)
    assert drop_short(active, frames).tolist() == wanted


def scores(**rows: list[float]) -> FrameScores:
    values = np.array(list(rows.values()), np.float32)
    return FrameScores(tuple(rows), values, values.shape[1] * 0.04 - 0.03)


def test_steps_apply_in_the_stated_order() -> None:
    row = [0.9, 0.1, 0.9, 0.9, 0.1, 0.1, 0.1, 0.9, 0.1]
    # The median takes the single frames away, the gap of two is closed, what is then too short goes.
    found = find_events(scores(dog=row), Postprocessing(0.5, median=0.12))
    assert [(e.onset, e.offset) for e in found] == [(0.0, pytest.approx(0.16))]
    found = find_events(scores(dog=row), Postprocessing(0.5, min_gap=0.08, min_length=0.12))
    assert [(e.onset, e.offset) for e in found] == [(0.0, pytest.approx(0.16))]
    found = find_events(scores(dog=row), Postprocessing(0.5, min_gap=0.16, min_length=0.12))
    assert [(e.onset, e.offset) for e in found] == [(0.0, pytest.approx(0.32))]


def test_thresholds_by_label_and_the_default_for_the_rest() -> None:
    found = find_events(
        scores(dog=[0.5, 0.7], cat=[0.2, 0.4], rain=[0.5, 0.5]), Postprocessing({"dog": 0.6, "rain": 1})
    )
    assert [(e.label, round(e.onset, 2), round(e.score, 2)) for e in found] == [("dog", 0.04, 0.7), ("cat", 0.04, 0.4)]


def test_the_last_event_ends_with_the_recording() -> None:
    (event,) = find_events(scores(dog=[0.0, 0.9, 0.9]))
    assert (event.onset, event.offset) == (0.04, pytest.approx(0.09))


def test_nothing_heard_is_no_event() -> None:
    assert find_events(scores(dog=[0.1, 0.25])) == []
    assert find_events(FrameScores(("dog",), np.zeros((1, 0), np.float32), 0.0)) == []


SETTINGS = st.builds(
    Postprocessing,
    threshold=LEVEL,
    low=st.sampled_from([0.3, 0.5, 1.0]),
    median=st.sampled_from([0.0, 0.12, 0.28]),
    min_gap=st.sampled_from([0.0, 0.08, 0.2]),
    min_length=st.sampled_from([0.0, 0.08, 0.16]),
)


@given(row=VALUES, how=SETTINGS, sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_events_of_frames_that_come_in_parts_are_those_of_the_whole(
    row: np.ndarray, how: Postprocessing, sizes: list[int]
) -> None:
    whole = FrameScores(("dog", "cat"), np.stack([row, row[::-1]]), max(0.0, len(row) * 0.04 - 0.03))
    stream, places, found = EventStream(whole.labels, how), np.cumsum([0, *sizes]), []
    for start, stop in pairwise(places):
        settled = stream.push(whole.probabilities[:, start:stop])
        # Settled frames are at most those that came, and what came back is over.
        assert all(event.offset <= min(stop, len(row)) * 0.04 + 1e-9 for event in settled)
        found += settled
    found += stream.finish(whole.probabilities[:, places[-1] :], whole.duration)
    assert sorted(found, key=lambda event: (event.onset, event.label != "dog")) == find_events(whole, how)


def test_an_event_comes_back_once_nothing_can_change_it() -> None:
    stream = EventStream(["dog"], Postprocessing(0.5, median=0.12, min_gap=0.08))
    given = [0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1]
    found = [len(stream.push(np.array([[value]], np.float32))) for value in given]
    assert found == [0, 0, 0, 0, 0, 1, 0]  # it ends before frame 3; two of pause, and one for the median


def test_the_frames_that_are_held_do_not_grow_with_the_recording() -> None:
    stream = EventStream(["dog"], Postprocessing(0.5, 0.5, median=0.76, min_gap=0.3))
    values = np.tile(np.repeat([0.9, 0.1], 25), 40).astype(np.float32)
    for at in range(0, len(values), 5):
        stream.push(values[None, at : at + 5])
        assert len(stream._rows[0].values) < 75


def test_settings_are_adjusted_one_by_one_and_labels_that_a_mapping_lacks_keep_their_own() -> None:
    own = Postprocessing(0.7, median=0.76, min_gap=0.3)
    assert own.adjusted(["dog"]) == own
    assert own.adjusted(["dog"], 0.4, median=0.0) == Postprocessing(0.4, median=0.0, min_gap=0.3)
    adjusted = own.adjusted(["dog", "cat"], {"dog": 0.2, "cow": 0.1})
    assert adjusted.threshold == {"dog": 0.2, "cat": 0.7, "cow": 0.1}
    assert adjusted.adjusted(["dog", "cow"], {"dog": 0.5}).threshold == {"dog": 0.5, "cow": 0.1}


@pytest.mark.parametrize(
    "settings",
    [{"threshold": 1.5}, {"threshold": {"dog": -1}}, {"low": 0}, {"median": -1}, {"min_gap": float("nan")}],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Postprocessing(**settings)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 2), st.floats(0, 2)), max_size=5), st.integers(0, 40))
def test_frame_targets_ask_the_middle_of_each_frame(found: list[tuple[str, float, float]], frames: int) -> None:
    events = [Event(label, min(a, b), max(a, b)) for label, a, b in found]
    targets = frame_targets(events, ("b", "a", "c"), np.arange(frames + 1) * 0.04)
    for row, label in enumerate(("b", "a", "c")):
        for t in range(frames):
            middle = (t * 0.04 + (t + 1) * 0.04) / 2
            assert targets[row, t] == any(e.label == label and e.onset <= middle < e.offset for e in events)
