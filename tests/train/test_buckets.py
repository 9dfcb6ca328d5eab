"""Clips in groups of like length give what they give side by side."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parallel_worker import model as small_model

from peav.train.buckets import in_buckets


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=7).filter(any), st.integers(1, 4), st.integers(0, 3))
def test_groups_of_like_length_give_what_one_pass_gives(lengths: list[int], count: int, seed: int) -> None:
    tower = small_model(0).audio.tower
    sizes = torch.tensor(lengths)
    inputs = torch.randn(
        len(lengths), max(lengths), tower.data_proj.in_features, generator=torch.Generator().manual_seed(seed)
    )
    with torch.no_grad():
        plain, grouped = tower(inputs, sizes), in_buckets(tower, inputs, sizes, count)
    torch.testing.assert_close(grouped.pooled, plain.pooled, rtol=1e-5, atol=1e-5)
    for one, other in ((grouped.sequence, plain.sequence), (grouped.middle, plain.middle)):
        assert one.shape == other.shape
        for row, size in enumerate(lengths):
            torch.testing.assert_close(one[row, :size], other[row, :size], rtol=1e-5, atol=1e-5)


def test_no_clip_is_padded_past_the_longest_of_its_group() -> None:
    tower, seen = small_model(0).audio.tower, []
    tower.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[:2])))
    inputs = torch.randn(4, 20, tower.data_proj.in_features)
    in_buckets(tower, inputs, torch.tensor([20, 3, 19, 2]), 2)
    assert seen == [(2, 3), (2, 20)]


def test_gradients_reach_every_clip_through_its_group() -> None:
    tower = small_model(0).audio.tower
    sizes = torch.tensor([5, 2, 4])
    inputs = torch.randn(3, 5, tower.data_proj.in_features)
    found = []
    for count in (1, 2):
        own = inputs.clone().requires_grad_()
        in_buckets(tower, own, sizes, count).pooled.square().sum().backward()
        found.append(own.grad)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    assert found[1][1, :2].abs().sum() > 0
    assert found[1][1, 2:].abs().sum() == pytest.approx(0)
