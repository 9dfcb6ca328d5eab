"""The frame loss is the plain formula over the cells that are known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peav.objectives.frame_sigmoid import frame_sigmoid_loss


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(0, 4), st.integers(1, 5))
def test_it_is_the_cross_entropy_of_known_cells_over_the_heard_ones(seed: int, b: int, n: int, t: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(b, n, t, generator=draw)
    known = torch.rand(b, n, t, generator=draw) < 0.7
    heard = (torch.rand(b, n, t, generator=draw) < 0.3) & known
    total, count = 0.0, 0
    for i in range(b):
        for j in range(n):
            for k in range(t):
                if known[i, j, k]:
                    p = 1 / (1 + math.exp(-float(logits[i, j, k])))
                    total -= math.log(p if heard[i, j, k] else 1 - p)
                    count += int(heard[i, j, k])
    assert float(frame_sigmoid_loss(logits, heard, known)) == pytest.approx(total / max(count, 1), rel=1e-4, abs=1e-6)


def test_unknown_cells_have_no_gradient() -> None:
    logits = torch.zeros(1, 2, 2, requires_grad=True)
    known = torch.tensor([[[True, False], [True, True]]])
    frame_sigmoid_loss(logits, torch.zeros(1, 2, 2, dtype=torch.bool), known).backward()
    assert (logits.grad != 0).equal(known)
