"""Spoken words, frame by frame: what is said when, learned from the middle of the audio tower.

Contrastive learning on transcripts picks up one word slot at a time; where a manifest knows the times of the words
(forced alignment, synthesis), a cross-entropy on every frame teaches them all at once, and the upper half of the tower
has words to build its embedding from.
"""

from __future__ import annotations

from torch import Tensor, nn

from peav.objectives.frame_loss import FrameLoss, frame_loss


class WordFrames(nn.Module):
    """A linear head on the audio tower's middle states, (B, T, width), over the vocabulary and silence."""

    def __init__(self, width: int, words: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, words + 1)

    def loss(self, states: Tensor, labels: Tensor) -> FrameLoss:
        """Learn the words of labeled frames.

        Args:
            states: (B, T, width). labels: (B, T) int64, 0 for silence, below 0 where nothing is known.
        """
        return frame_loss(self.head, states, labels, labels >= 0)
