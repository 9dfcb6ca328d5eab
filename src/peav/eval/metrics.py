"""Retrieval and classification metrics on score matrices, numpy arrays or CPU tensors.

Ties count against the model: an item that scores the same as the right one is ranked above it, so a collapsed model,
which scores everything alike, is last and not first. Scores that are not finite are an error, never a rank.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from peav.errors import EvaluationError
from peav.utils.renamed import renamed


def ranks(scores: Any, relevant: Any = None) -> np.ndarray:
    """The rank of each query's best relevant target, 1 for the top.

    Args:
        scores: (Q, T) similarities, higher is closer.
        relevant: (Q, T) bool; any number of targets may be right, but at least one per query. None: query i belongs
            to target i, and Q = T.

    Returns:
        (Q,) int64: one more than the number of wrong targets that score at least as high as the best right one.

    Raises:
        EvaluationError: scores that are NaN or infinite, shapes that differ, or a query without a relevant target.
    """
    scores, relevant = _checked(scores, relevant)
    best = np.where(relevant, scores, -np.inf).max(1, keepdims=True)
    return 1 + ((scores >= best) & ~relevant).sum(1)


def recall_at_k(scores: Any, k: int, relevant: Any = None) -> float:
    """Share of queries with a relevant target among the first k; arguments and errors as for `ranks`."""
    return float((ranks(scores, relevant) <= k).mean())


def median_rank(scores: Any, relevant: Any = None) -> float:
    """Median rank of the best relevant target; arguments and errors as for `ranks`."""
    return float(np.median(ranks(scores, relevant)))


def mrr(scores: Any, relevant: Any = None) -> float:
    """Mean reciprocal rank of the best relevant target; arguments and errors as for `ranks`."""
    return float((1 / ranks(scores, relevant)).mean())


def chance_at_k(relevant: Any, k: int) -> float:
    """`recall_at_k` expected of a random order of the targets.

    Args:
        relevant: (Q, T) bool.
    """
    relevant = np.asarray(relevant, dtype=bool)
    targets = relevant.shape[1]
    k = min(k, targets)
    # Hypergeometric: the chance that none of the right targets is among k drawn.
    misses = [math.comb(targets - right, k) / math.comb(targets, k) for right in relevant.sum(1).tolist()]
    return 1 - float(np.mean(misses))


def accuracy(scores: Any, labels: Any) -> float:
    """Share of rows whose label scores strictly highest.

    Args:
        scores: (N, C) one score per class.
        labels: (N,) int class indices.

    Raises:
        EvaluationError: scores that are NaN or infinite, or a label outside [0, C).
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    classes = np.arange(scores.shape[1])
    return recall_at_k(scores, 1, labels[:, None] == classes)


def _checked(scores: Any, relevant: Any) -> tuple[np.ndarray, np.ndarray]:
    scores = np.asarray(scores, dtype=np.float64)
    relevant = np.eye(len(scores), dtype=bool) if relevant is None else np.asarray(relevant, dtype=bool)
    if scores.shape != relevant.shape or scores.ndim != 2 or not scores.size:
        raise EvaluationError(f"need scores and relevance of one shape (Q, T), got {scores.shape} and {relevant.shape}")
    bad = np.argwhere(~np.isfinite(scores))
    if len(bad):
        query, target = bad[0]
        raise EvaluationError(f"{len(bad)} scores are not finite, the first of query {query} and target {target}")
    lost = np.flatnonzero(~relevant.any(1))
    if len(lost):
        raise EvaluationError(f"{len(lost)} queries have no relevant target, the first is query {lost[0]}")
    return scores, relevant


if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"MetricError": "peav.errors:EvaluationError"})
