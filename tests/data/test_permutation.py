"""A computed order has every place once, and looks like a shuffle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peav.data.permutation import Permutation

KEYS = st.tuples(st.integers(0, 2**40), st.integers(0, 9), st.integers(0, 9))


@pytest.mark.parametrize("key", [(0,), (0, 0, 1), (7, 3, 2)])
def test_every_number_comes_once_for_all_small_sizes(key: tuple[int, ...]) -> None:
    for size in range(1, 300):
        assert sorted(Permutation(size, key)(np.arange(size)).tolist()) == list(range(size))


@given(size=st.integers(1, 20_000), key=KEYS)
def test_every_number_comes_once(size: int, key: tuple[int, ...]) -> None:
    assert np.array_equal(np.sort(Permutation(size, key)(np.arange(size))), np.arange(size))


@given(size=st.integers(1, 2**62), key=KEYS, data=st.data())
def test_a_place_has_what_it_has_whichever_others_are_asked_for(size: int, key: tuple[int, ...], data) -> None:
    places = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=8)))
    order = Permutation(size, key)
    together = order(places)
    assert together.tolist() == [int(order(places[i : i + 1])[0]) for i in range(len(places))]
    assert ((together >= 0) & (together < size)).all()
    assert len(set(together.tolist())) == len(set(places.tolist()))


@pytest.mark.parametrize("size", [1000, 1024, 1025, 100_003])
def test_an_order_keeps_nothing_of_its_neighbors_of_itself_or_of_the_next_epoch(size: int) -> None:
    """Of a real shuffle each of these counts has the mean and the deviation of a Poisson of the same mean."""
    first, second = (Permutation(size, (5, 0, epoch))(np.arange(size)) for epoch in (0, 1))
    assert (first == np.arange(size)).sum() <= 8  # mean 1
    assert (first == second).sum() <= 8
    assert (np.abs(np.diff(first)) == 1).sum() <= 12  # mean 2
    assert abs(np.corrcoef(np.arange(size), first)[0, 1]) < 5 / np.sqrt(size)
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(size)
    # Sixteenths of the places hold sixteenths of the numbers: chi-square, 225 degrees of freedom.
    table = np.histogram2d(np.arange(size), first, bins=16, range=[[0, size], [0, size]])[0]
    expected = np.outer(table.sum(1), table.sum(0)) / size
    assert ((table - expected) ** 2 / expected).sum() < 225 + 6 * np.sqrt(450)


def test_all_orders_of_three_come_about_equally_often() -> None:
    orders, counts = np.unique(
        [Permutation(3, (0, 0, epoch))(np.arange(3)) for epoch in range(3000)], axis=0, return_counts=True
    )
    assert len(orders) == 6
    assert counts.min() > 300


@pytest.mark.parametrize("size", [0, -1, 2**62 + 1])
def test_a_size_that_cannot_be_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 2"):
        Permutation(size, (0,))
