"""Losses beside the pairs: what one is, and the names by which a recipe asks for them (`objective.auxiliary`).

A loss is a subclass of `AuxiliaryLoss` in a file of its own, with a line in `AUXILIARY`; outside the package a recipe
names it as `path/to/file.py:Class`.
"""

# Shapes: B clips, T latents at 25 Hz, C width of a latent, D width of a tower or of an embedding.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from peav.model import PEAVConfig
from peav.objectives.frame_loss import FrameLoss
from peav.objectives.pairs import Embedding

AUXILIARY = {
    "best_rq": "peav.objectives.best_rq:BestRQLoss",
    "words": "peav.lab.words:WordFrames",
}


def loss_name(key: str) -> str:
    """The name of a loss in logs: a built-in one's own, of `path/to/file.py:Class` the class's."""
    return key.rpartition(":")[2]


@dataclass(frozen=True)
class LossContext:
    """What a loss is built for: the model's `config`, the training `rows` (of a manifest), and the run's `seed`."""

    config: PEAVConfig
    rows: Sequence[Any]
    seed: int = 0


@dataclass(frozen=True)
class AudioStates:
    """What the audio tower made of the clips of a batch that have sound (B of them, T latents at 25 Hz).

    Attributes:
        latents: (B, T, C), the codec's, whole, whatever `hide` hid.
        lengths: (B,) valid latents of each clip.
        hidden: (B, T) bool, the latents that `hide` hid; None where the loss hides nothing.
        middle, sequence: (B, T, D), the tower's states half way up and at its end.
        targets: (B, T) int64 of `AuxiliaryLoss.target`, below 0 where nothing is known; None where it has none.
    """

    latents: Tensor
    lengths: Tensor
    hidden: Tensor | None
    middle: Tensor
    sequence: Tensor
    targets: Tensor | None


class AuxiliaryLoss(nn.Module):
    """A loss beside the pairs. Its parameters train with the model and are saved in the run's checkpoints alone.

    A subclass takes a `LossContext` and, as keywords, what a recipe says of it but for its `weight`. It overrides
    `on_audio` or `on_embeddings`, and `target` or `hide` where it needs them. What these return is a `FrameLoss`, whose
    mean is taken over all processes, or a scalar tensor, a mean over this process's part of the batch.
    """

    has_targets: ClassVar[bool] = False
    """Whether `target` is to be asked."""
    hides: ClassVar[bool] = False
    """Whether `hide` is to be asked; one loss of a recipe may."""

    def __init__(self, context: LossContext) -> None:
        super().__init__()

    def target(self, row: Any, steps: int) -> np.ndarray:
        """(steps,) int64: what is known of each latent of a manifest's row, below 0 for nothing."""
        raise NotImplementedError

    def hide(self, latents: Tensor, lengths: Tensor, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        """What the audio tower hears in place of `latents` (B, T, C), and the (B, T) bool mask of what was replaced.

        Draws come from the clips' generators alone, so that no process and no batch changes them.
        """
        raise NotImplementedError

    def on_audio(self, states: AudioStates) -> FrameLoss | Tensor | None:
        """The loss on what the audio tower made; None where it has none."""
        return None

    def on_embeddings(
        self, embeddings: Mapping[Embedding, Tensor], present: Mapping[Embedding, Tensor]
    ) -> FrameLoss | Tensor | None:
        """The loss on the embeddings (B, D) that the pairs use, `present` (B,) bool saying which clips have them."""
        return None
