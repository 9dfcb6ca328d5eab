"""Cross-entropy over the frames of a batch that have a label, kept as sums so that processes can share a mean."""

# Shapes: B clips, T latents at 25 Hz, D width of the head's input, K labeled frames of the batch.

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peav.distributed import ALONE, DistContext


class FrameLoss(NamedTuple):
    """Scalars: `total` (fp32, nats, with a graph), and how many frames were `right` and `labeled` at all."""

    total: Tensor
    right: Tensor
    labeled: Tensor

    def mean(self, dist: DistContext = ALONE) -> tuple[Tensor, Tensor]:
        """This process's share of the mean loss and of the accuracy over all labeled frames of the global batch.

        The shares of all processes add up; alone they are the means. Both are 0 where nothing is labeled.
        """
        count = dist.all_reduce_sum(self.labeled).clamp(min=1)
        return self.total / count, self.right / count


def frame_loss(head: nn.Linear, states: Tensor, labels: Tensor, mask: Tensor) -> FrameLoss:
    """Cross-entropy of `head` on the frames in `mask`: states (B, T, D), labels (B, T) int64, mask (B, T) bool."""
    logits = head(states[mask])  # (K, classes)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    wanted = labels[mask]  # (K,)
    total = F.cross_entropy(logits, wanted, reduction="sum")
    return FrameLoss(total, (logits.argmax(-1) == wanted).sum(), mask.sum())
