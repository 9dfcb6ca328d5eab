"""Spoken words, frame by frame: what is said when, learned from the middle of the audio tower.

Contrastive learning on transcripts picks up one word slot at a time; where a manifest knows the times of the words
(forced alignment, synthesis), a cross-entropy on every frame teaches them all at once, and the upper half of the tower
has words to build its embedding from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from peav.lab.word_labels import spoken_vocabulary, word_labels
from peav.objectives.auxiliary import AudioStates, AuxiliaryLoss, LossContext
from peav.objectives.frame_loss import FrameLoss, frame_loss


class WordFrames(AuxiliaryLoss):
    """A linear head on the audio tower's middle states, (B, T, width), over the words of the training rows and
    silence (`objective.auxiliary.words`).
    """

    has_targets = True

    def __init__(self, context: LossContext) -> None:
        super().__init__(context)
        codec = context.config.audio.codec
        self.rate = codec.sampling_rate / codec.hop_length
        self.vocabulary = spoken_vocabulary(context.rows)
        self.head = nn.Linear(context.config.audio.transformer.hidden_size, len(self.vocabulary) + 1)

    def target(self, row: Any, steps: int) -> np.ndarray:
        """The number of the word that is said at each latent, 0 for silence."""
        return word_labels(row.words, steps, self.rate, self.vocabulary)

    def on_audio(self, states: AudioStates) -> FrameLoss:
        """Learn the words of labeled frames."""
        assert states.targets is not None
        return frame_loss(self.head, states.middle, states.targets, states.targets >= 0)
