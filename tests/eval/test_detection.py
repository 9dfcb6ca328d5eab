"""Detection metrics beside scikit-learn, brute force and the reference evaluators."""

from __future__ import annotations

import itertools
import math
import warnings
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peav.errors import EvaluationError
from peav.eval.detection import (
    Counts,
    auroc,
    event_counts,
    frame_auroc,
    macro,
    matching,
    micro,
    segment_counts,
)
from peav.eval.psds import SCENARIOS, merged, psds
from peav.events import Event, FrameScores, frame_targets

LABELS = ("cat", "dog", "rain")
# 64ths are exact in binary and never a collar of 0.2 s apart, so that rounding cannot decide.
TIMES = st.integers(0, 64 * 8).map(lambda n: n / 64)
EVENTS = st.lists(
    st.tuples(st.sampled_from(LABELS), TIMES, st.integers(8, 96).map(lambda n: n / 64)).map(
        lambda t: Event(t[0], t[1], t[1] + t[2])
    ),
    max_size=6,
)
RECORDINGS = st.dictionaries(st.sampled_from(["one", "two", "three"]), EVENTS)


def quietly(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: ModuleType = pytest.importorskip(name)
    return module


def recordings(seed: int, files: int = 12) -> tuple[dict[str, FrameScores], dict[str, list[Event]]]:
    """Scores with many ties that know something of the events, a recording without events, a label without any."""
    rng = np.random.default_rng(seed)
    scores, truth = {}, {}
    for i in range(files):
        name, frames = f"f{i}", int(rng.integers(100, 200))
        truth[name] = [
            Event(
                LABELS[int(rng.integers(2))], onset := float(rng.integers(0, 60) / 16), onset + rng.integers(4, 32) / 16
            )
            for _ in range(int(rng.integers(1, 5)) if i else 0)
        ]
        known = frame_targets(truth[name], LABELS, np.arange(frames + 1) * 0.04)
        noise = rng.random((3, frames // 8 + 1)).repeat(8, axis=1)[:, :frames]
        values = (rng.uniform(0.1, 0.5) * known + 0.5 * noise).round(1)
        scores[name] = FrameScores(LABELS, values.astype(np.float32), frames * 0.04)
    return scores, truth


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.booleans()), max_size=40))
def test_auroc_equals_scikit_learn_with_ties(pairs: list[tuple[float, bool]]) -> None:
    metrics = quietly("sklearn.metrics")
    values, targets = np.array([v for v, _ in pairs], np.float32), np.array([t for _, t in pairs], bool)
    if targets.all() or not targets.any():
        assert math.isnan(auroc(values, targets))
    else:
        assert auroc(values, targets) == pytest.approx(metrics.roc_auc_score(targets, values), abs=1e-12)


def test_frame_auroc_pools_recordings_and_has_no_value_for_labels_that_never_sound() -> None:
    metrics = quietly("sklearn.metrics")
    scores, truth = recordings(0)
    del truth["f0"]  # a recording without events need not be listed
    found = frame_auroc(scores, truth)
    targets = np.concatenate([frame_targets(truth.get(n, []), LABELS, s.edges) for n, s in scores.items()], axis=1)
    values = np.concatenate([s.probabilities for s in scores.values()], axis=1)
    for row, label in enumerate(LABELS[:2]):
        assert found[label] == pytest.approx(metrics.roc_auc_score(targets[row], values[row]), abs=1e-12)
    assert math.isnan(found["rain"])
    assert macro(found) == pytest.approx((found["cat"] + found["dog"]) / 2)
    assert math.isnan(macro({"rain": math.nan}))


def test_scores_that_cannot_be_judged_are_an_error() -> None:
    scores, truth = recordings(0)
    with pytest.raises(EvaluationError, match="no scores"):
        frame_auroc({}, truth)
    with pytest.raises(EvaluationError, match="f3"):
        frame_auroc({n: s for n, s in scores.items() if n != "f3"}, truth)
    with pytest.raises(EvaluationError, match="other labels"):
        frame_auroc({**scores, "x": FrameScores(("owl",), np.zeros((1, 1), np.float32), 0.04)}, truth)
    with pytest.raises(EvaluationError, match="NaN"):
        auroc(np.array([np.nan, 1.0]), np.array([True, False]))


@given(st.lists(st.sets(st.integers(0, 4), max_size=4).map(sorted), max_size=5))
def test_matching_makes_the_most_pairs(choices: list[list[int]]) -> None:
    best = 0
    for picks in itertools.product(*[[None, *options] for options in choices]):
        used = [pick for pick in picks if pick is not None]
        best = max(best, len(used) if len(set(used)) == len(used) else 0)
    assert matching(choices) == best


@settings(max_examples=40)
@given(found=RECORDINGS, truth=RECORDINGS)
def test_event_and_segment_counts_equal_sed_eval(found: dict[str, list[Event]], truth: dict[str, list[Event]]) -> None:
    reference = quietly("sed_eval").sound_event
    containers = quietly("dcase_util").containers
    events = reference.EventBasedMetrics(
        list(LABELS), t_collar=0.2, percentage_of_length=0.2, event_matching_type="optimal"
    )
    segments = reference.SegmentBasedMetrics(list(LABELS), time_resolution=1.0)

    def listed(side: dict[str, list[Event]], name: str) -> object:
        rows = [{"event_label": e.label, "onset": e.onset, "offset": e.offset} for e in side.get(name, [])]
        return containers.MetaDataContainer(rows)

    for name in {**found, **truth}:
        for evaluator in (events, segments):
            evaluator.evaluate(listed(truth, name), listed(found, name))
    for counts, evaluator in ((event_counts(found, truth), events), (segment_counts(found, truth), segments)):
        for label, count in counts.items():
            theirs = evaluator.class_wise[label]
            hits = theirs["Ntp"]
            assert (count.hits, count.false, count.missed) == (hits, theirs["Nsys"] - hits, theirs["Nref"] - hits)


def test_the_collars_hold_their_ends() -> None:
    truth = {"a": [Event("dog", 0.6, 3.6)]}
    assert event_counts({"a": [Event("dog", 0.8, 4.2)]}, truth)["dog"] == Counts(hits=1)  # 20 % of 3 s
    assert event_counts({"a": [Event("dog", 0.81, 3.6)]}, truth)["dog"] == Counts(false=1, missed=1)
    assert event_counts({"a": [Event("dog", 0.6, 4.21)]}, truth)["dog"] == Counts(false=1, missed=1)
    assert segment_counts({"a": [Event("dog", 0.1 + 0.2 + 0.7, 2.0)]}, {"a": [Event("dog", 1.0, 2.0)]})["dog"].f1 == 1


def test_nothing_on_either_side_has_no_value() -> None:
    counts = event_counts({"a": []}, {}, labels=["dog"])
    assert math.isnan(counts["dog"].f1)
    assert math.isnan(counts["dog"].precision)
    assert math.isnan(counts["dog"].recall)
    assert event_counts({}, {}) == {}
    assert micro({"a": Counts(1, 2, 3), "b": Counts(1, 0, 0)}) == Counts(2, 2, 3)
    assert micro({"a": Counts(1, 1, 0)}).f1 == pytest.approx(2 / 3)


def reference_psds(scores: dict[str, FrameScores], truth: dict[str, list[Event]]) -> dict[str, float]:
    """sed_scores_eval's, over the labels that have events."""
    evaluator = quietly("sed_scores_eval")
    labels = [label for label in LABELS if any(e.label == label for events in truth.values() for e in events)]
    tables = {
        name: evaluator.base_modules.scores.create_score_dataframe(
            np.stack([one.row(label) for label in labels], axis=1).astype(np.float64), one.edges, labels
        )
        for name, one in scores.items()
    }
    spans = {name: [(label, merged(truth.get(name, []), label)) for label in labels] for name in scores}
    events = {name: [(*map(float, span), label) for label, some in own for span in some] for name, own in spans.items()}
    durations = {name: one.duration for name, one in scores.items()}
    found = {}
    for scenario, ours in SCENARIOS.items():
        theirs = {"dtc_threshold": ours.dtc, "gtc_threshold": ours.gtc, "alpha_st": ours.spread, "max_efpr": 100.0}
        if len(labels) > 1:  # there is nothing to be mistaken for, which they do not expect
            theirs |= {"cttc_threshold": ours.cttc, "alpha_ct": ours.cross}
        found[scenario] = evaluator.intersection_based.psds(tables, events, durations, **theirs)[0]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_psds_equals_sed_scores_eval_to_the_last_bit(seed: int) -> None:
    scores, truth = recordings(seed)
    found = psds(scores, truth)
    assert found == reference_psds(scores, truth)
    assert all(0 < value < 1 for value in found.values())


def test_psds_of_smooth_scores_off_the_grid_equals_sed_scores_eval_to_the_last_bit() -> None:
    """No two scores alike, events and ends of recordings anywhere, detections that are all but long enough."""
    rng = np.random.default_rng(5)
    scores, truth = {}, {}
    for i in range(8):
        seconds = float(rng.uniform(3, 12))
        frames = int(np.ceil(seconds / 0.04))
        values = np.cumsum(rng.normal(size=(3, frames)), axis=1)
        truth[f"f{i}"] = [
            Event(label, float(onset), float(min(seconds, onset + rng.uniform(0.1, 3))))
            for label, onset in zip(rng.choice(LABELS, 6), rng.uniform(0, seconds - 0.1, 6), strict=True)
        ]
        values += 6 * frame_targets(truth[f"f{i}"], LABELS, np.arange(frames + 1) * 0.04)
        scores[f"f{i}"] = FrameScores(LABELS, (1 / (1 + np.exp(-values / 4))).astype(np.float32), seconds)
    assert psds(scores, truth) == reference_psds(scores, truth)


def test_psds_of_one_label_and_of_none() -> None:
    scores, truth = recordings(1)
    only = {name: [event for event in events if event.label == "dog"] for name, events in truth.items()}
    assert psds(scores, only) == reference_psds(scores, only)
    assert all(math.isnan(value) for value in psds(scores, {}).values())


def test_psds_of_perfect_and_of_useless_scores() -> None:
    truth = {"a": [Event("cat", 1.0, 2.0)], "b": [Event("dog", 0.0, 2.0)]}
    targets = {name: frame_targets(events, LABELS, np.arange(101) * 0.04) for name, events in truth.items()}
    perfect = {name: FrameScores(LABELS, rows.astype(np.float32), 4.0) for name, rows in targets.items()}
    assert psds(perfect, truth) == {"psds1": 1.0, "psds2": 1.0}
    silent = {name: FrameScores(LABELS, np.zeros_like(rows, np.float32), 4.0) for name, rows in targets.items()}
    assert psds(silent, truth)["psds1"] == 0.0
    silent["a"].probabilities[0, 3] = np.nan
    with pytest.raises(EvaluationError, match="a, cat: 1 frame scores are NaN"):
        psds(silent, truth)


@pytest.mark.slow
def test_psds_of_a_long_recording_takes_no_more_than_its_frames() -> None:
    frames = 45_000  # every frame against every threshold would be 2e9
    rng = np.random.default_rng(0)
    scores = {"long": FrameScores(("dog",), rng.random((1, frames)).astype(np.float32), frames * 0.04)}
    truth = {"long": [Event("dog", 18.0 * i, 18.0 * i + 4) for i in range(100)]}
    assert 0 <= psds(scores, truth)["psds1"] < 0.1


def test_merged_joins_events_that_overlap_or_touch() -> None:
    events = [Event("dog", 2, 3), Event("dog", 0, 1), Event("dog", 1, 1.5), Event("cat", 0.5, 2.5)]
    assert [merged(events, label).tolist() for label in ("cat", "dog")] == [[[0.5, 2.5]], [[0, 1.5], [2, 3]]]
