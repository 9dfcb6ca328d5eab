"""Retrieval, zero-shot classification and linear probes over manifest rows, as the paper reports them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from peav.data.manifest import Row
from peav.errors import EvaluationError
from peav.eval.directions import CAPTIONED, DIRECTIONS, Side
from peav.eval.embedder import Embedder, unit
from peav.eval.metrics import accuracy, chance_at_k, median_rank, mrr, recall_at_k
from peav.features.keys import clip_key
from peav.types import Modality
from peav.utils.renamed import renamed

KS = (1, 5, 10)
LOOKED_AT_ONCE = 256  # rows whose files are probed together


@dataclass(frozen=True)
class Retrieval:
    """One direction of search: `recall` and the `chance` of it by k, over `queries` against `targets`."""

    direction: str
    queries: int
    targets: int
    recall: Mapping[int, float]
    chance: Mapping[int, float]
    median_rank: float
    mrr: float


@dataclass(frozen=True)
class Classification:
    """Accuracy over `clips`, and the `chance` of it: the share of the commonest class among them."""

    method: str
    clips: int
    classes: int
    accuracy: float
    chance: float


def retrieval(
    embedder: Embedder,
    rows: Sequence[Row],
    directions: Iterable[str] = CAPTIONED,
    candidates: int = 256,
    seed: int = 0,
) -> list[Retrieval]:
    """Search among `candidates` clips in each direction.

    The clips of a direction are the first `candidates` of one seeded order of the rows that have both sides of it
    (all, where there are fewer); of clips with one transcript, the first alone where transcripts are searched. Texts
    are the distinct ones of these clips: a clip may have several and a text may belong to several clips, and finding
    any right one counts. Each clip is embedded once for all directions.

    Returns:
        One result per direction, in the order asked for. A direction that fewer than two rows can serve is left out.
        Rows that cannot be read make way for the next ones.

    Raises:
        EvaluationError: an unknown direction.
    """
    directions = tuple(directions)
    unknown = [direction for direction in directions if direction not in DIRECTIONS]
    if unknown:
        raise EvaluationError(f"no direction {unknown[0]!r}; the directions are {', '.join(DIRECTIONS)}")
    order = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    pools, before = _pools(embedder, order, directions, candidates), None
    while pools != before:  # some may prove unreadable only when they are decoded
        chosen = list({clip_key(row): row for pool in pools.values() for row in pool}.values())
        spaces = {side.modality for name in pools for side in DIRECTIONS[name] if side.text is None}
        media = embedder.media(chosen, sorted(spaces)) if chosen else {}
        pools, before = _pools(embedder, order, directions, candidates), pools
    place = {clip_key(row): i for i, row in enumerate(chosen)}
    results = []
    for name, pool in pools.items():
        at = [place[clip_key(row)] for row in pool]
        own = {space: rows[at] for space, rows in media.items()}
        (queries, asking), (targets, asked) = (_items(embedder, side, pool, own) for side in DIRECTIONS[name])
        results.append(ranked(name, queries @ targets.T, asking.astype(int) @ asked.astype(int).T > 0))
    return results


def zero_shot(
    embedder: Embedder,
    rows: Sequence[Row],
    labels: Sequence[str],
    prompts: Mapping[str, Sequence[str]],
    modality: Modality = "audio",
) -> Classification:
    """Classify each clip by the class whose prompts are nearest.

    Args:
        labels: the right class of each row.
        prompts: the texts of each class, e.g. {"dog": ["a dog barking"]}; a class is the mean of their unit vectors.
        modality: the space that clips and prompts are compared in.

    Raises:
        EvaluationError: no rows, or a label without prompts.
    """
    if not rows:
        raise EvaluationError("zero-shot classification needs at least one row")
    lacking = sorted(set(labels) - set(prompts))
    if lacking:
        raise EvaluationError(f"no prompts for {', '.join(lacking)}")
    classes = list(prompts)
    vectors = np.stack([unit(embedder.texts(list(prompts[name]), modality)).mean(0) for name in classes])
    scores = embedder.media(rows, [modality])[modality] @ vectors.T
    return _classified("zero-shot", scores, labels, classes)


def linear_probe(
    embedder: Embedder,
    train: Sequence[Row],
    train_labels: Sequence[str],
    test: Sequence[Row],
    test_labels: Sequence[str],
    modality: Modality = "audio",
) -> Classification:
    """Logistic regression on the embeddings of `train`, measured on `test`; see `probe`."""
    x, x_test = (_vectors(embedder, rows, modality) for rows in (train, test))
    return probe("linear probe", x, train_labels, x_test, test_labels)


def probe(
    method: str, x: np.ndarray, labels: Sequence[str], x_test: np.ndarray, test_labels: Sequence[str]
) -> Classification:
    """Logistic regression on x (N, D), each dimension standardized, measured on x_test (M, D).

    Raises:
        EvaluationError: an empty side, or a test label that no row of x has.
    """
    if not labels or not test_labels:
        raise EvaluationError("a linear probe needs rows to train on and rows to test on")
    classes = sorted(set(labels))
    lacking = sorted(set(test_labels) - set(classes))
    if lacking:
        raise EvaluationError(f"no training rows for {', '.join(lacking)}")
    mean, deviation = x.mean(0), x.std(0) + 1e-8
    weight, bias = logistic_regression((x - mean) / deviation, np.array([classes.index(label) for label in labels]))
    return _classified(method, (x_test - mean) / deviation @ weight + bias, test_labels, classes)


def _vectors(embedder: Embedder, rows: Sequence[Row], modality: Modality) -> np.ndarray:
    """(n, D) float64, (0, 0) of no rows."""
    return embedder.media(rows, [modality])[modality].astype(np.float64) if rows else np.zeros((0, 0))


def logistic_regression(x: np.ndarray, y: np.ndarray, penalty: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Minimize summed cross-entropy + penalty / 2 * |weight|^2 by L-BFGS from zero, which has one solution.

    Args:
        x: (N, D) float64. y: (N,) int classes 0 to C - 1.

    Returns:
        weight (D, C) and bias (C,), float64.
    """
    features, target = torch.from_numpy(x), torch.from_numpy(y)
    weight = torch.zeros(x.shape[1], int(y.max()) + 1, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(weight.shape[1], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=500, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(features @ weight + bias, target, reduction="sum") + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    return weight.detach().numpy(), bias.detach().numpy()


def _pools(
    embedder: Embedder, order: Sequence[Row], directions: Collection[str], candidates: int
) -> dict[str, list[Row]]:
    """The rows of each direction: the first ones of the order that have both its sides, and a transcript of their own
    where transcripts are searched.
    """
    pools: dict[str, list[Row]] = {name: [] for name in directions}
    said: dict[str, set[str | None]] = {name: set() for name in directions}
    looked_at = (order[first : first + LOOKED_AT_ONCE] for first in range(0, len(order), LOOKED_AT_ONCE))
    for row, has in ((row, has) for part in looked_at for row, has in zip(part, embedder.streams(part), strict=True)):
        open_pools = [name for name, pool in pools.items() if len(pool) < candidates]
        if not open_pools:
            break
        for name in open_pools:
            sides = DIRECTIONS[name]
            repeats = any(side.text == "transcript" for side in sides) and row.transcript in said[name]
            if not repeats and all(side.texts(row) if side.text else side.modality in has for side in sides):
                pools[name].append(row)
                said[name].add(row.transcript)
    return {name: pool for name, pool in pools.items() if len(pool) > 1}


def _items(
    embedder: Embedder, side: Side, pool: Sequence[Row], media: Mapping[Modality, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """A side's embeddings (I, D) and which of the pool's clips each belongs to, (I, clips) bool."""
    if side.text is None:
        return media[side.modality], np.eye(len(pool), dtype=bool)
    per_row = [set(side.texts(row)) for row in pool]
    distinct = list(dict.fromkeys(text for row in pool for text in side.texts(row)))
    belongs = np.array([[text in texts for texts in per_row] for text in distinct])
    return embedder.texts(distinct, side.modality), belongs


def ranked(name: str, scores: np.ndarray, relevant: np.ndarray) -> Retrieval:
    """The figures of one direction.

    Args:
        scores: (queries, targets), higher is closer. relevant: of the same shape, bool.
    """
    return Retrieval(
        direction=name,
        queries=relevant.shape[0],
        targets=relevant.shape[1],
        recall={k: recall_at_k(scores, k, relevant) for k in KS},
        chance={k: chance_at_k(relevant, k) for k in KS},
        median_rank=median_rank(scores, relevant),
        mrr=mrr(scores, relevant),
    )


def _classified(method: str, scores: np.ndarray, labels: Sequence[str], classes: Sequence[str]) -> Classification:
    index = np.array([classes.index(label) for label in labels])
    commonest = np.bincount(index).max() / len(index)
    return Classification(method, len(labels), len(classes), accuracy(scores, index), float(commonest))


if not TYPE_CHECKING:
    __getattr__ = renamed(
        __name__, {"ProtocolError": "peav.errors:EvaluationError", "WORLD_DIRECTIONS": "peav.eval.directions:CAPTIONED"}
    )
