"""The order of clips is a function of (seed, step), and fair."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peav.data.sampler import MixtureSampler

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=4)
LARGE = st.sampled_from([0, 10, 100])  # all, some and none of the sources are


@given(sizes=SIZES, batch=st.integers(1, 40), seed=st.integers(0, 5), large=LARGE, data=st.data())
def test_any_step_is_the_same_whatever_was_asked_before(sizes, batch, seed, large, data) -> None:
    weights = data.draw(st.lists(st.floats(0.1, 5), min_size=len(sizes), max_size=len(sizes)))
    walked = MixtureSampler(sizes, weights, batch, seed, large)
    sequence = [walked.batch(step) for step in range(6)]
    step = data.draw(st.integers(0, 5))
    assert MixtureSampler(sizes, weights, batch, seed, large).batch(step) == sequence[step]
    assert all(len(chosen) == batch for chosen in sequence)


@given(sizes=SIZES, batch=st.integers(1, 40), seed=st.integers(0, 3), step=st.integers(0, 9))
def test_sources_that_are_not_large_have_the_order_of_earlier_versions(sizes, batch, seed, step) -> None:
    sampler, chosen = MixtureSampler(sizes, [1.0] * len(sizes), batch, seed), []
    for source, (count, size) in enumerate(zip(sampler.counts, sizes, strict=True)):
        for position in range(step * count, (step + 1) * count):
            epoch, offset = divmod(position, size)
            order = np.random.default_rng((seed, source, epoch)).permutation(size)
            chosen.append((source, int(order[offset])))
    assert sampler.batch(step) == chosen


@given(sizes=SIZES, batch=st.integers(1, 12), seed=st.integers(0, 3), large=LARGE)
def test_no_clip_comes_twice_before_all_of_its_source_came_once(sizes, batch, seed, large) -> None:
    sampler = MixtureSampler(sizes, [1.0] * len(sizes), batch, seed, large)
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


@pytest.mark.parametrize("large", [0, 64])
def test_seeds_differ_and_epochs_differ(large: int) -> None:
    first = MixtureSampler([64], [1], 64, 0, large)
    assert first.batch(0) != first.batch(1)
    assert first.batch(0) != MixtureSampler([64], [1], 64, 1, large).batch(0)


def test_a_step_of_a_hundred_million_clips_holds_no_more_than_the_step() -> None:
    sampler = MixtureSampler([100_000_000, 3_000_000_000], [1, 1], 3024, 0)
    sampler.batch(0)  # imports and caches apart
    tracemalloc.start()
    chosen = sampler.batch(123_456)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(chosen)) == 3024
    assert peak < 2_000_000


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one clip"):
        MixtureSampler([3, 0], [1, 1], 4, 0)
