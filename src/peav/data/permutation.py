"""A shuffle of any length that is computed for the places that are asked for, and never stored."""

from __future__ import annotations

import numpy as np

ROUNDS = 8


class Permutation:
    """A random order of 0 ... size - 1, at most 2^62, as a function of `key`.

    A Feistel network permutes the numbers of as many bits as `size` needs. Results past the end are sent through it
    again until they are below `size` (cycle walking): less than twice on average, as the network has less than twice
    as many numbers.

    Args:
        key: whole numbers from 0 on, such as (seed, source, epoch); another key is another order.
    """

    def __init__(self, size: int, key: tuple[int, ...]) -> None:
        if not 0 < size <= 2**62:
            raise ValueError(f"an order has from 1 to 2^62 places, not {size}")
        self.size = size
        bits = (size - 1).bit_length()
        self._low = np.uint64(bits - bits // 2)  # bits of the lower half; the upper one may have one less, or none
        self._masks = (np.uint64((1 << bits // 2) - 1), np.uint64((1 << int(self._low)) - 1))  # upper, lower
        self._keys = np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64)

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """What stands at `places` (N,), each in [0, size): (N,) int64."""
        found = self._network(places.astype(np.uint64))
        while len(outside := np.flatnonzero(found >= self.size)):
            found[outside] = self._network(found[outside])
        return found.astype(np.int64)

    def _network(self, numbers: np.ndarray) -> np.ndarray:
        upper, lower = numbers >> self._low, numbers & self._masks[1]
        for number, key in enumerate(self._keys):
            # Each round changes one half by the other, which can be undone whatever `_mixed` does.
            if number % 2:
                upper ^= _mixed(lower ^ key) & self._masks[0]
            else:
                lower ^= _mixed(upper ^ key) & self._masks[1]
        return (upper << self._low) | lower


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64: every bit of a number depends on all of its bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
