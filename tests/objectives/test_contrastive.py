from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from peav.objectives import contrastive
from peav.objectives.contrastive import infonce_loss, mean_of_negatives, sigmoid_loss


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks, the last one ragged, at the sizes of these tests."""
    monkeypatch.setattr(contrastive, "CHUNK", 5)


def naive_sigmoid(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, groups: Tensor | None = None) -> Tensor:
    """The paper's formula, term by term."""
    total = x.new_zeros(())
    for b in range(len(x)):
        for c in range(len(y)):
            if b != c and groups is not None and groups[b] == groups[c]:
                continue
            z = 1 if b == c else -1
            total = total - F.logsigmoid(z * (scale * (x[b] @ y[c]) + bias)).squeeze()
    return total / len(x)


def naive_infonce(x: Tensor, y: Tensor, scale: Tensor, groups: Tensor | None = None) -> Tensor:
    logits = scale * x @ y.T
    if groups is not None:
        same = (groups[:, None] == groups) & ~torch.eye(len(x), dtype=torch.bool)
        logits = logits.masked_fill(same, -torch.inf)
    partner = torch.arange(len(x))
    return (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2


def inputs(batch: int, width: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, batch, width, generator=generator, dtype=dtype)
    return [t.requires_grad_() for t in (x, y, torch.tensor([2.5], dtype=dtype), torch.tensor([-1.5], dtype=dtype))]


def assert_same_with_gradients(fast: Tensor, naive: Tensor, leaves: list[Tensor], tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(fast, naive, rtol=tolerance, atol=tolerance)
    got, want = (torch.autograd.grad(loss, leaves, allow_unused=True) for loss in (fast, naive))
    for g, w, leaf in zip(got, want, leaves, strict=True):
        zero = torch.zeros_like(leaf)
        torch.testing.assert_close(zero if g is None else g, zero if w is None else w, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@settings(deadline=None)
@given(batch=st.integers(1, 13), seed=st.integers(0, 99), grouped=st.booleans())
def test_sigmoid_loss_and_its_gradients_equal_the_papers_formula(batch: int, seed: int, grouped: bool) -> None:
    leaves = inputs(batch, seed=seed)
    groups = torch.randint(4, (batch,), generator=torch.Generator().manual_seed(seed)) if grouped else None
    assert_same_with_gradients(sigmoid_loss(*leaves, groups=groups), naive_sigmoid(*leaves, groups), leaves)


@pytest.mark.slow
@settings(deadline=None)
@given(batch=st.integers(1, 13), seed=st.integers(0, 99), grouped=st.booleans())
def test_infonce_and_its_gradients_equal_two_cross_entropies(batch: int, seed: int, grouped: bool) -> None:
    leaves = inputs(batch, seed=seed)[:3]
    groups = torch.randint(4, (batch,), generator=torch.Generator().manual_seed(seed)) if grouped else None
    assert_same_with_gradients(infonce_loss(*leaves, groups=groups), naive_infonce(*leaves, groups), leaves)


@pytest.mark.parametrize("seed", range(5))
def test_samples_that_agree_in_any_column_of_groups_are_not_negatives(seed: int) -> None:
    x, y, scale, bias = inputs(13, seed=seed)
    groups = torch.randint(6, (13, 2), generator=torch.Generator().manual_seed(seed))
    apart = (groups[:, None] != groups).all(-1) | torch.eye(13, dtype=torch.bool)
    logits = scale * x @ y.T + bias
    terms = F.logsigmoid(torch.where(torch.eye(13, dtype=torch.bool), logits, -logits))
    naive = -(terms * apart).sum() / 13
    assert_same_with_gradients(sigmoid_loss(x, y, scale, bias, groups=groups), naive, [x, y, scale, bias])
    kept = (scale * x @ y.T).masked_fill(~apart, -torch.inf)
    naive = (F.cross_entropy(kept, torch.arange(13)) + F.cross_entropy(kept.T, torch.arange(13))) / 2
    assert_same_with_gradients(infonce_loss(x, y, scale, groups=groups), naive, [x, y, scale])


@settings(deadline=None)
@given(valid=st.lists(st.booleans(), min_size=1, max_size=13), seed=st.integers(0, 99))
def test_the_mean_of_negatives_is_that_of_all_products_off_the_diagonal(valid: list[bool], seed: int) -> None:
    mask = torch.tensor(valid)
    x, y = (torch.where(mask[:, None], t.detach(), torch.nan) for t in inputs(len(valid), seed=seed)[:2])
    products = x[mask] @ y[mask].T
    negatives = products[~torch.eye(len(products), dtype=torch.bool)]
    mean, count = mean_of_negatives(x, y, mask)
    assert count == sum(valid)
    assert mean == pytest.approx(negatives.mean().item() if len(negatives) else 0.0, rel=1e-9, abs=1e-9)


@pytest.mark.slow
@settings(deadline=None)
@given(valid=st.lists(st.booleans(), min_size=1, max_size=13), seed=st.integers(0, 99))
def test_invalid_samples_drop_out_of_rows_and_columns_whatever_they_hold(valid: list[bool], seed: int) -> None:
    mask = torch.tensor(valid)
    x, y, scale, bias = inputs(len(valid), seed=seed)
    dirty = [torch.where(mask[:, None], t, torch.nan).detach().requires_grad_() for t in (x, y)]
    kept = [t.detach()[mask].requires_grad_() for t in dirty]
    for loss, shared in ((sigmoid_loss, (scale, bias)), (infonce_loss, (scale,))):
        masked, alone = loss(*dirty, *shared, valid=mask), loss(*kept, *shared)
        torch.testing.assert_close(masked, alone, rtol=1e-12, atol=1e-12)
        for got, want in zip(torch.autograd.grad(masked, dirty), torch.autograd.grad(alone, kept), strict=True):
            torch.testing.assert_close(got[mask], want)
            assert (got[~mask] == 0).all()


@pytest.mark.parametrize("batch", [0, 3])
def test_no_valid_sample_gives_a_zero_with_zero_gradients(batch: int) -> None:
    leaves = inputs(batch)
    valid = torch.zeros(batch, dtype=torch.bool)
    for loss in (sigmoid_loss(*leaves, valid=valid), infonce_loss(*leaves[:3], valid=valid)):
        assert loss == 0
        gradients = torch.autograd.grad(loss, leaves[:3])
        assert all((gradient == 0).all() for gradient in gradients)


def test_gradients_pass_gradcheck() -> None:
    leaves = inputs(7)
    assert torch.autograd.gradcheck(sigmoid_loss, leaves)
    assert torch.autograd.gradcheck(infonce_loss, leaves[:3])


def test_autocast_changes_nothing() -> None:
    leaves = inputs(12, dtype=torch.float32)
    for loss, arguments in ((sigmoid_loss, leaves), (infonce_loss, leaves[:3])):
        outside = loss(*arguments)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = loss(*arguments)
        assert inside.dtype == torch.float32
        assert inside == outside
        pairs = zip(torch.autograd.grad(inside, arguments), torch.autograd.grad(outside, arguments), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_half_precision_embeddings_are_compared_in_fp32() -> None:
    leaves = inputs(9, dtype=torch.float32)
    halves = [leaf.bfloat16() for leaf in leaves[:2]]
    loss = sigmoid_loss(*halves, *leaves[2:])
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, naive_sigmoid(*[half.float() for half in halves], *leaves[2:]), rtol=1e-6, atol=0)


def test_unequal_batches_are_refused() -> None:
    x, y, scale, bias = inputs(4)
    with pytest.raises(AssertionError, match="as many queries as targets"):
        sigmoid_loss(x, y[:3], scale, bias)


MEMORY = """
import resource, torch
from peav.objectives.contrastive import sigmoid_loss, infonce_loss
torch.set_num_threads(1)
x, y = torch.randn(2, 3024, 1024)
x, y = x.requires_grad_(), y.requires_grad_()
scale, bias = torch.tensor(1.0, requires_grad=True), torch.tensor(-1.0, requires_grad=True)
(sigmoid_loss(x[:64], y[:64], scale, bias) + infonce_loss(x[:64], y[:64], scale)).backward()
x.grad = y.grad = None
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sum(sigmoid_loss(x, y, scale, bias) for _ in range(10)).backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
def test_ten_pairs_at_batch_3024_and_width_1024_add_under_300_mb() -> None:
    """All ten graphs alive before one backward pass; the naive logits alone would take 37 MB times several a pair."""
    result = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(result.stdout) < 300, f"{result.stdout} MB"


@pytest.mark.slow
def test_equal_to_the_naive_formula_at_batch_3024(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrastive, "CHUNK", 256)
    x, y, scale, bias = inputs(3024, 1024, dtype=torch.float32)
    x, y = (F.normalize(t.detach(), dim=-1).requires_grad_() for t in (x, y))
    leaves = [x, y, scale, bias]
    z = 2 * torch.eye(3024) - 1
    naive = -F.logsigmoid(z * (scale * x @ y.T + bias)).sum() / 3024
    fast = sigmoid_loss(*leaves)
    torch.testing.assert_close(fast, naive, rtol=1e-6, atol=0)
    for got, want in zip(torch.autograd.grad(fast, leaves), torch.autograd.grad(naive, leaves), strict=True):
        assert (got - want).norm() <= 1e-6 * want.norm()
