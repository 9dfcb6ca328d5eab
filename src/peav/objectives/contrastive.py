"""Pairwise contrastive losses over a batch, in fp32 and with memory for a few rows of logits at a time.

The losses take the embeddings as they come: whoever wants cosine similarities (training from scratch is far stabler
with them) normalizes before the call. `scale` is alpha itself, not its logarithm.

Where several processes share a batch (`dist`), each computes the rows of its own samples against the columns of all:
what it returns is its share of the loss, and the shares of all processes, and their gradients, add up to those of one
process with the whole batch.
"""

# Shapes: B samples (of this process as arguments, of all processes as the columns of logits), R rows of a block, D
# width, G columns of groups.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from peav.distributed import ALONE, DistContext

Rows = Callable[[Tensor, Tensor, Tensor, Tensor, int, Tensor | None], Tensor]
CHUNK = 256  # rows of logits alive at once: at B = 3024 one block is 3 MB


def sigmoid_loss(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    bias: Tensor,
    valid: Tensor | None = None,
    groups: Tensor | None = None,
    dist: DistContext = ALONE,
) -> Tensor:
    """Sigmoid loss (SigLIP, arXiv 2303.15343): `-1/B sum_b sum_b' log sigmoid(z (alpha x_b . y_b' + beta))`.

    z is +1 on the diagonal and -1 elsewhere; B counts the valid samples.

    Args:
        x, y: (B, D) embeddings; row b of one belongs to row b of the other.
        scale, bias: alpha and beta, tensors of one element.
        valid: (B,) bool; samples that are not drop out of rows and columns. None: all are.
        groups: (B,) or (B, G) ints; samples that agree in any column are not negatives of each other. None: all others
            are negatives.
        dist: the processes that share the batch; B is then each one's part of it.

    Returns:
        A scalar, fp32 (fp64 for fp64 inputs); without valid samples a zero that keeps the graph.
    """

    def rows(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, start: int, groups: Tensor | None) -> Tensor:
        logits = x @ y.T * scale + bias  # (R, B)
        positive = _diagonal(logits, start)  # (R, B) bool
        # logsigmoid, since the log of a sigmoid is -inf where a pair is far off.
        terms = -F.logsigmoid(torch.where(positive, logits, -logits))
        return terms.masked_fill(_false_negatives(positive, start, groups), 0).sum()

    return _mean_over_rows(rows, x, y, scale, bias, valid, groups, dist)


def infonce_loss(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    valid: Tensor | None = None,
    groups: Tensor | None = None,
    dist: DistContext = ALONE,
) -> Tensor:
    """InfoNCE in both directions: mean cross-entropy of each row, and of each column, against its own partner.

    Arguments and result as for `sigmoid_loss`; there is no bias, to which a softmax is blind.
    """

    def rows(x: Tensor, y: Tensor, scale: Tensor, _bias: Tensor, start: int, groups: Tensor | None) -> Tensor:
        logits = x @ y.T * scale  # (R, B)
        positive = _diagonal(logits, start)
        logits = logits.masked_fill(_false_negatives(positive, start, groups), -torch.inf)
        return (logits.logsumexp(1) - logits.diagonal(start)).sum()  # diagonal: (R,), from column `start` on

    zero = scale.new_zeros(())
    forth = _mean_over_rows(rows, x, y, scale, zero, valid, groups, dist)
    back = _mean_over_rows(rows, y, x, scale, zero, valid, groups, dist)
    return (forth + back) / 2


@torch.no_grad()
def mean_of_negatives(x: Tensor, y: Tensor, valid: Tensor, dist: DistContext = ALONE) -> tuple[float, int]:
    """The mean of x_b . y_b' over all valid b != b' of the global batch, and how many samples are valid.

    From sums over samples, in fp64: no (B, B) matrix is made, and processes get the same figure. 0 where there is no
    pair of samples.

    Args:
        x, y: (B, D). valid: (B,) bool.
    """
    x, y = x.double()[valid], y.double()[valid]
    # The sum over all pairs (b, b') is the product of the sums; the pairs (b, b) are taken off.
    own = [x.sum(0), y.sum(0), (x * y).sum()[None], valid.sum().double()[None]]
    x_sum, y_sum, matches, number = dist.all_reduce_sum(torch.cat(own)).split([x.shape[1], y.shape[1], 1, 1])
    count = int(number)
    return ((x_sum @ y_sum - matches) / max(count * (count - 1), 1)).item(), count


def _mean_over_rows(
    rows: Rows,
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    bias: Tensor,
    valid: Tensor | None,
    groups: Tensor | None,
    dist: DistContext,
) -> Tensor:
    """Mean over the valid samples of what `rows` sums over its block of rows; this process's share of it."""
    assert x.shape == y.shape, f"a pair needs as many queries as targets, of one width; got {x.shape} and {y.shape}"
    dtype = torch.promote_types(x.dtype, torch.float32)
    own = torch.ones(len(x), dtype=torch.bool, device=x.device) if valid is None else valid  # (B,)
    everyone = dist.all_gather(own)  # (world_size * B,)
    # Samples that are not valid leave before any logit is made: they can be neither row nor column.
    x, y = _kept(x.to(dtype), own), _kept(dist.all_gather(y.to(dtype)), everyone)
    groups = None if groups is None else _kept(dist.all_gather(groups), everyone)
    # The column of this process's first row: valid samples of the processes before it.
    first = int(everyone[: dist.local_rows(len(everyone)).start].sum())
    total = _SumOverRows.apply(rows, groups, first, x, y, scale.to(dtype), bias.to(dtype))
    # By all processes' count: the shares then add up to the mean over the whole batch.
    return total / max(len(y), 1)


def _kept(x: Tensor, mask: Tensor) -> Tensor:
    """The rows in `mask`; no copy where that is all of them."""
    return x if mask.all() else x[mask]


class _SumOverRows(torch.autograd.Function):
    """Sums blocks of rows, one alive at a time in either pass.

    `torch.utils.checkpoint` per block would do the same sum, but keeps a (B, D) gradient for every block: 1 GB for ten
    pairs at batch 3024 and width 1024.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Rows, groups: Tensor | None, first: int, x: Tensor, y: Tensor, scale: Tensor, bias: Tensor
    ) -> Tensor:
        ctx.rows, ctx.groups, ctx.first = rows, groups, first
        ctx.save_for_backward(x, y, scale, bias)
        total = x.new_zeros(())
        # The caller's autocast would make the products in bf16, whose steps at logits near 10 are 1/16.
        with torch.autocast(x.device.type, enabled=False):
            for start in range(0, len(x), CHUNK):
                total += rows(x[start : start + CHUNK], y, scale, bias, first + start, groups)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, *shared = (tensor.detach().requires_grad_() for tensor in ctx.saved_tensors)
        x_gradient, *gradients = (torch.zeros_like(tensor) for tensor in (x, *shared))
        for start in range(0, len(x), CHUNK):
            block = x[start : start + CHUNK].detach().requires_grad_()
            with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
                total = ctx.rows(block, *shared, ctx.first + start, ctx.groups)
            # InfoNCE does not use the bias: its gradient is to be zeros, not None.
            parts = torch.autograd.grad(total, (block, *shared), upstream, materialize_grads=True)
            x_gradient[start : start + CHUNK] = parts[0]
            for gradient, part in zip(gradients, parts[1:], strict=True):
                gradient += part
        return None, None, None, x_gradient, *gradients


def _diagonal(logits: Tensor, start: int) -> Tensor:
    """(R, B) bool: which entries of the block of rows from `start` on pair a sample with itself."""
    row = torch.arange(start, start + len(logits), device=logits.device)  # (R,)
    return row[:, None] == torch.arange(logits.shape[1], device=logits.device)


def _false_negatives(positive: Tensor, start: int, groups: Tensor | None) -> Tensor:
    """(R, B) bool: entries that are off the diagonal but agree in a column of `groups`."""
    if groups is None:
        return torch.zeros_like(positive)
    columns = groups.reshape(len(groups), -1)  # (B, G)
    # (R, G) against (B, G): a column in which both agree is enough.
    own = columns[start : start + len(positive)]
    return (own[:, None] == columns).any(-1) & ~positive
