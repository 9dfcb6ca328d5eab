from __future__ import annotations

import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, label_ranking_average_precision_score, top_k_accuracy_score

from peav.errors import EvaluationError
from peav.eval.metrics import accuracy, chance_at_k, median_rank, mrr, ranks, recall_at_k

# Few distinct values, so that ties are common.
SCORES = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 7)), elements=st.integers(-2, 2).map(float))


def with_relevant(scores: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    relevant = rng.random(scores.shape) < 0.3
    relevant[np.arange(len(scores)), rng.integers(scores.shape[1], size=len(scores))] = True
    return relevant


def brute_force_rank(scores: list[float], relevant: list[bool]) -> int:
    """Sort with the wrong targets first among equals, then walk down to the first right one."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], relevant[i]))
    return 1 + next(place for place, i in enumerate(order) if relevant[i])


@settings(deadline=None)
@given(scores=SCORES, seed=st.integers(0, 99))
def test_ranks_are_those_of_a_sort_with_wrong_targets_first_among_ties(scores: np.ndarray, seed: int) -> None:
    relevant = with_relevant(scores, seed)
    expected = [brute_force_rank(s, r) for s, r in zip(scores.tolist(), relevant.tolist(), strict=True)]
    assert ranks(scores, relevant).tolist() == expected
    assert ranks(torch.from_numpy(scores), torch.from_numpy(relevant)).tolist() == expected
    for k in (1, 2, 5):
        assert recall_at_k(scores, k, relevant) == pytest.approx(sum(rank <= k for rank in expected) / len(expected))
    assert median_rank(scores, relevant) == statistics.median(expected)


@pytest.mark.slow
@settings(deadline=None)
@given(seed=st.integers(0, 999), classes=st.integers(3, 8))
def test_recall_and_accuracy_equal_scikit_learns_without_ties(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.normal(size=(20, classes)), rng.integers(classes, size=20)
    relevant = labels[:, None] == np.arange(classes)
    for k in range(1, classes):
        expected = top_k_accuracy_score(labels, scores, k=k, labels=range(classes))
        assert recall_at_k(scores, k, relevant) == pytest.approx(expected)
    assert accuracy(scores, labels) == pytest.approx(accuracy_score(labels, scores.argmax(1)))


@settings(deadline=None)
@given(scores=SCORES, seed=st.integers(0, 99))
def test_mrr_equals_scikit_learns_ranking_precision_with_one_right_target(scores: np.ndarray, seed: int) -> None:
    right = np.random.default_rng(seed).integers(scores.shape[1], size=len(scores))
    relevant = right[:, None] == np.arange(scores.shape[1])
    assert mrr(scores, relevant) == pytest.approx(label_ranking_average_precision_score(relevant, scores))


def test_without_relevance_a_query_belongs_to_the_target_of_its_own_place() -> None:
    scores = np.random.default_rng(0).normal(size=(9, 9))
    assert ranks(scores).tolist() == ranks(scores, np.eye(9, dtype=bool)).tolist()
    assert recall_at_k(scores, 3) == recall_at_k(scores, 3, np.eye(9, dtype=bool))
    with pytest.raises(EvaluationError, match="one shape"):
        ranks(scores[:, :8])


def test_a_collapsed_model_is_last_not_first() -> None:
    scores = np.zeros((4, 4))
    assert ranks(scores, np.eye(4, dtype=bool)).tolist() == [4, 4, 4, 4]
    assert accuracy(scores, np.arange(4)) == 0


def test_chance_is_the_recall_of_random_orders() -> None:
    relevant = with_relevant(np.zeros((3, 9)), seed=1)
    rng = np.random.default_rng(0)
    for k in (1, 3, 20):
        drawn = np.mean([recall_at_k(rng.random((3, 9)), k, relevant) for _ in range(4000)])
        assert chance_at_k(relevant, k) == pytest.approx(drawn, abs=0.02)
    assert chance_at_k(np.eye(250, dtype=bool), 5) == pytest.approx(5 / 250)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_an_error_that_says_where(bad: float) -> None:
    scores = np.eye(3)
    scores[1, 2] = bad
    with pytest.raises(EvaluationError, match="not finite, the first of query 1 and target 2"):
        ranks(scores, np.eye(3, dtype=bool))
    with pytest.raises(EvaluationError, match="not finite"):
        accuracy(scores, [0, 1, 2])


def test_a_query_without_a_right_target_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="first is query 1"):
        ranks(np.eye(2), np.array([[True, False], [False, False]]))
    with pytest.raises(EvaluationError, match="no relevant target"):
        accuracy(np.eye(2), [0, 5])


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,)])
def test_empty_or_flat_scores_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(EvaluationError, match="one shape"):
        ranks(np.zeros(shape), np.zeros(shape, dtype=bool))
