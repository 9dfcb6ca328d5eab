"""Which clips make up a step: a function of (seed, step) alone, so that resuming needs no state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from peav.data.permutation import Permutation

LARGE = 2**20
"""A source of more clips than this is large: its order is computed, and not stored (8 bytes a clip and epoch). Smaller
ones keep the order that they have always had, so that runs of earlier versions go on with the clips of theirs."""


class MixtureSampler:
    """Draws fixed numbers of clips a batch from several sources, each walked in its own shuffled epochs.

    `sizes` are the numbers of clips in each source, `weights` their shares of a batch (they need not sum to one).
    A source of n clips gives every clip once before any clip twice, whatever the batch size. Of sources with more than
    `large` clips no order is stored.
    """

    def __init__(
        self, sizes: Sequence[int], weights: Sequence[float], batch_size: int, seed: int, large: int = LARGE
    ) -> None:
        if not sizes or min(sizes) < 1:
            raise ValueError(f"every training source needs at least one clip; their sizes are {list(sizes)}")
        if len(weights) != len(sizes) or min(weights) <= 0:
            raise ValueError("give one positive weight for each training source")
        self.sizes, self.seed, self.large = tuple(sizes), seed, large
        self.counts = _shares(weights, batch_size)
        self._permutation = lru_cache(maxsize=2 * len(sizes))(self._draw_permutation)

    def batch(self, step: int) -> list[tuple[int, int]]:
        """The (source, index) pairs of a step, counted from 0."""
        chosen: list[tuple[int, int]] = []
        for source, (count, size) in enumerate(zip(self.counts, self.sizes, strict=True)):
            position, end = step * count, (step + 1) * count
            while position < end:  # an epoch at a time
                epoch, offset = divmod(position, size)
                places = np.arange(offset, min(offset + end - position, size))
                chosen += [(source, index) for index in self._order(source, epoch, places).tolist()]
                position += len(places)
        return chosen

    def _order(self, source: int, epoch: int, places: np.ndarray) -> np.ndarray:
        if self.sizes[source] > self.large:
            return Permutation(self.sizes[source], (self.seed, source, epoch))(places)
        ordered: np.ndarray = self._permutation(source, epoch)[places]
        return ordered

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
