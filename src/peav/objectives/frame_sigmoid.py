"""Frame-level alignment: a sigmoid for every (frame, text) of a batch (arXiv 2512.19687, PE-A-Frame)."""

# Shapes: B clips, N texts, T audio frames of 40 ms, K cells of which it is known whether the text is heard.

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from peav.distributed import ALONE, DistContext


def frame_sigmoid_loss(logits: Tensor, targets: Tensor, known: Tensor, dist: DistContext = ALONE) -> Tensor:
    """Binary cross-entropy of the known (frame, text) cells, in nats per cell in which a text is heard.

    Cells in which nothing is heard are many times more; over the positive ones the loss keeps one size whatever their
    number. With several processes this is the process's share: the shares add up to the loss of the global batch.

    Args:
        logits: (B, N, T). targets: (B, N, T) bool, where a text is heard. known: (B, N, T) bool, the cells that count.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    wanted = logits[known].to(dtype)  # (K,)
    heard = targets[known]  # (K,) bool
    total = F.binary_cross_entropy_with_logits(wanted, heard.to(dtype), reduction="sum")
    return total / dist.all_reduce_sum(heard.sum()).clamp(min=1)
