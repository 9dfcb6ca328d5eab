"""Which clips make up a step: a function of (seed, step) alone, so that resuming needs no state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np


class MixtureSampler:
    """Draws fixed numbers of clips a batch from several sources, each walked in its own shuffled epochs.

    `sizes` are the numbers of clips in each source, `weights` their shares of a batch (they need not sum to one).
    A source of n clips gives every clip once before any clip twice, whatever the batch size.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], batch_size: int, seed: int) -> None:
        if not sizes or min(sizes) < 1:
            raise ValueError(f"every training source needs at least one clip; their sizes are {list(sizes)}")
        if len(weights) != len(sizes) or min(weights) <= 0:
            raise ValueError("give one positive weight for each training source")
        self.sizes, self.seed = tuple(sizes), seed
        self.counts = _shares(weights, batch_size)
        self._permutation = lru_cache(maxsize=2 * len(sizes))(self._draw_permutation)

    def batch(self, step: int) -> list[tuple[int, int]]:
        """The (source, index) pairs of a step, counted from 0."""
        chosen = []
        for source, (count, size) in enumerate(zip(self.counts, self.sizes, strict=True)):
            for position in range(step * count, (step + 1) * count):
                epoch, offset = divmod(position, size)
                chosen.append((source, int(self._permutation(source, epoch)[offset])))
        return chosen

    def _draw_permutation(self, source: int, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, source, epoch)).permutation(self.sizes[source])


def _shares(weights: Sequence[float], total: int) -> tuple[int, ...]:
    """Whole numbers that sum to `total` in proportion to `weights`: largest remainders get what is left."""
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [math.floor(x) for x in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return tuple(counts)
