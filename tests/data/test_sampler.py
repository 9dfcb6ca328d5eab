"""The order of clips is a function of (seed, step), and fair."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peav.data.sampler import MixtureSampler

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=4)


@given(sizes=SIZES, batch=st.integers(1, 40), seed=st.integers(0, 5), data=st.data())
def test_any_step_is_the_same_whatever_was_asked_before(sizes, batch, seed, data) -> None:
    weights = data.draw(st.lists(st.floats(0.1, 5), min_size=len(sizes), max_size=len(sizes)))
    walked = MixtureSampler(sizes, weights, batch, seed)
    sequence = [walked.batch(step) for step in range(6)]
    step = data.draw(st.integers(0, 5))
    assert MixtureSampler(sizes, weights, batch, seed).batch(step) == sequence[step]
    assert all(len(chosen) == batch for chosen in sequence)


@given(sizes=SIZES, batch=st.integers(1, 12), seed=st.integers(0, 3))
def test_no_clip_comes_twice_before_all_of_its_source_came_once(sizes, batch, seed) -> None:
    sampler = MixtureSampler(sizes, [1.0] * len(sizes), batch, seed)
    drawn: dict[int, list[int]] = {source: [] for source in range(len(sizes))}
    for step in range(20):
        for source, index in sampler.batch(step):
            drawn[source].append(index)
    for source, indices in drawn.items():
        size = sizes[source]
        for start in range(0, len(indices) - size + 1, size):
            assert sorted(indices[start : start + size]) == list(range(size))


def test_shares_follow_the_weights() -> None:
    sampler = MixtureSampler([100, 100, 100], [6, 3, 1], 32, 0)
    counts = Counter(source for source, _ in sampler.batch(0))
    assert [counts[i] for i in range(3)] == [19, 10, 3]


def test_seeds_differ_and_epochs_differ() -> None:
    first = MixtureSampler([64], [1], 64, 0)
    assert first.batch(0) != first.batch(1)
    assert first.batch(0) != MixtureSampler([64], [1], 64, 1).batch(0)


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one clip"):
        MixtureSampler([3, 0], [1, 1], 4, 0)
