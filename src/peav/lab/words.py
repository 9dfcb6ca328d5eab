"""Spoken words, frame by frame: what is said when, learned from the middle of the audio tower.

Contrastive learning on transcripts picks up one word slot at a time; where a manifest knows the times of the words
(forced alignment, synthesis), a cross-entropy on every frame teaches them all at once, and the upper half of the tower
has words to build its embedding from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import nn

from peav.data.manifest import Row
from peav.objectives.auxiliary import AudioStates, AuxiliaryLoss, LossContext
from peav.objectives.frame_loss import FrameLoss, frame_loss
from peav.types import Word

UNLABELED = -1
SILENCE = 0


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
        return words_at(row.words, (np.arange(steps) + 0.5) / self.rate, self.vocabulary)

    def on_audio(self, states: AudioStates) -> FrameLoss:
        """Learn the words of labeled frames."""
        assert states.targets is not None
        return frame_loss(self.head, states.middle, states.targets, states.targets >= 0)


def spoken_vocabulary(rows: Iterable[Row], size: int = 1000) -> dict[str, int]:
    """The commonest words with times, numbered from 1; ties go by the alphabet."""
    counts = Counter(word.word for row in rows for word in row.words)
    common = sorted(counts, key=lambda word: (-counts[word], word))[:size]
    return {word: number for number, word in enumerate(sorted(common), start=1)}


def words_at(words: Sequence[Word], times: np.ndarray, vocabulary: dict[str, int]) -> np.ndarray:
    """(frames,) int64: the word at each of `times` (frames,), seconds into the clip, or `SILENCE` between words.

    Clips without timed words and words outside the vocabulary are `UNLABELED`.
    """
    labels = np.full(len(times), SILENCE if words else UNLABELED, np.int64)
    for word in words:
        labels[(times >= word.start) & (times < word.end)] = vocabulary.get(word.word, UNLABELED)
    return labels
