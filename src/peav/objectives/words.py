"""Spoken words, frame by frame: what is said when, learnt from the middle of the audio tower.

Contrastive learning on transcripts picks up one word slot at a time; where a manifest knows the times of the words
(forced alignment, synthesis), a cross-entropy on every frame teaches them all at once, and the upper half of the tower
has words to build its embedding from.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class WordFrames(nn.Module):
    """A linear head on the audio tower's middle states, (B, T, width), over the vocabulary and silence."""

    def __init__(self, width: int, words: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, words + 1)

    def loss(self, states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy in nats and accuracy over labelled frames, fp32 scalars.

        Args:
            states: (B, T, width). labels: (B, T) int64, 0 for silence, below 0 where nothing is known.

        Returns:
            Both are 0, with a graph, where no frame is labelled.
        """
        known = labels >= 0
        logits = self.head(states[known]).float()
        count = max(len(logits), 1)
        loss = F.cross_entropy(logits, labels[known], reduction="sum") / count
        return loss, (logits.argmax(-1) == labels[known]).sum() / count
