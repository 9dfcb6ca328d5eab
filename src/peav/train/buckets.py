"""Clips of like length side by side, so that short ones are not padded to the longest of the batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from peav.model.transformer import TowerOutput


def in_buckets(
    tower: Callable[[Tensor, Tensor], TowerOutput], inputs: Tensor, lengths: Tensor, count: int
) -> TowerOutput:
    """What `tower` makes of a batch, computed in `count` groups of clips of like length, each as long as its longest.

    A clip's output does not depend on its padding, so that this is the output of one group, to rounding; what comes
    past a clip's end is arbitrary in both.

    Args:
        inputs: (B, T, C). lengths: (B,) how many of the T count.
    """
    if count == 1 or len(inputs) < count:
        return tower(inputs, lengths)
    order = lengths.argsort(stable=True)  # (B,)
    parts = [
        tower(inputs[rows, : max(int(lengths[rows].max()), 1)], lengths[rows]) for rows in order.tensor_split(count)
    ]
    back = order.argsort()  # (B,): the inverse permutation
    pooled, sequence, middle = (
        torch.cat([_padded(part, inputs.shape[1]) for part in outputs])[back] for outputs in zip(*parts, strict=True)
    )
    return TowerOutput(pooled, sequence, middle)


def _padded(values: Tensor, size: int) -> Tensor:
    """(B, T, D) with zeros up to T = size; (B, D) as it is."""
    return F.pad(values, (0, 0, 0, size - values.shape[1])) if values.dim() == 3 else values
