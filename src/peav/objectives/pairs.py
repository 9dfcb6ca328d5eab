"""The ten pairwise objectives of PE-AV (arXiv 2512.19687; ablated in its Table 9).

Captions come in three kinds: audio (AC), visual (VC) and audio-visual (AVC). A caption is projected by the text head
of the *medium* it is paired with: A-AVC puts the audio-visual caption through `text_audio`. Pre-training uses eight
pairs, fine-tuning adds two whose query joins a medium with a caption of the other one: (A + VC) -> V, (V + AC) -> A.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from peav.distributed import ALONE, DistContext
from peav.objectives.contrastive import infonce_loss, sigmoid_loss
from peav.types import Modality
from peav.utils.renamed import renamed


@dataclass(frozen=True)
class Embedding:
    """How one side of a pair is computed: a projection head and what it is fed.

    `head` names a head of the model. A media embedding has a `medium` alone, a text embedding a `caption` kind alone;
    a joint one has both, the head then takes the two pooled states, media first.
    """

    head: str
    medium: Modality | None = None
    caption: Modality | None = None


@dataclass(frozen=True)
class Pair:
    """One objective: row b of `query` belongs to row b of `target`. `name` keys the pair's scale and bias."""

    name: str
    query: Embedding
    target: Embedding


def media(medium: Modality) -> Embedding:
    """The medium's own embedding."""
    return Embedding(medium, medium=medium)


def text(medium: Modality, caption: Modality) -> Embedding:
    """A caption of the kind `caption` in the text space of `medium`."""
    return Embedding(f"text_{medium}", caption=caption)


def joint(medium: Modality, caption: Modality) -> Embedding:
    """A medium together with a caption of the kind `caption`, as one query."""
    return Embedding(f"{medium}_plus_text", medium=medium, caption=caption)


PRETRAIN: tuple[Pair, ...] = (
    Pair("a_ac", media("audio"), text("audio", "audio")),
    Pair("a_v", media("audio"), media("video")),
    Pair("a_avc", media("audio"), text("audio", "audio_video")),
    Pair("av_ac", media("audio_video"), text("audio_video", "audio")),
    Pair("av_avc", media("audio_video"), text("audio_video", "audio_video")),
    Pair("v_ac", media("video"), text("video", "audio")),
    Pair("v_vc", media("video"), text("video", "video")),
    Pair("v_avc", media("video"), text("video", "audio_video")),
)
FINETUNE: tuple[Pair, ...] = (
    *PRETRAIN,
    Pair("a_vc__v", joint("audio", "video"), media("video")),
    Pair("v_ac__a", joint("video", "audio"), media("audio")),
)
PAIRS: dict[str, Pair] = {pair.name: pair for pair in FINETUNE}


def needed(pairs: Iterable[Pair]) -> tuple[Embedding, ...]:
    """The distinct embeddings that the pairs ask for, in order of first use, so that each is computed once."""
    return tuple(dict.fromkeys(side for pair in pairs for side in (pair.query, pair.target)))


def pair_losses(
    pairs: Iterable[Pair],
    embeddings: Mapping[Embedding, Tensor],
    present: Mapping[Embedding, Tensor],
    scales: Mapping[str, Tensor] | nn.ParameterDict,
    biases: Mapping[str, Tensor] | nn.ParameterDict,
    loss: Literal["sigmoid", "infonce"] = "sigmoid",
    groups: Mapping[Embedding, Tensor] | None = None,
    dist: DistContext = ALONE,
) -> dict[str, Tensor]:
    """The loss of every pair, in fp32 whatever the autocast state.

    A sample that lacks a stream drops out of the rows *and* the columns of the pairs that need it. A pair left
    without any sample gives a zero that still depends on its inputs, so that every parameter always has a gradient
    (distributed training would otherwise wait for one that never comes).

    Args:
        embeddings: (B, D) for each embedding of `needed(pairs)`; rows that are not present may hold anything.
        present: (B,) bool for each of them: whether the sample has what the embedding is made of.
        scales, biases: the scalar alpha and beta of each pair, by name. InfoNCE has no use for the bias.
        groups: (B,) ints for embeddings that have them: samples with the same input share a number. Those that share
            one on either side of a pair are not negatives of each other: what belongs to one belongs to the other.
        dist: the processes that share the batch; each gets its share of the losses, see `contrastive`.

    Returns:
        A scalar for each pair, by name.
    """
    losses = {}
    for pair in pairs:
        x, y = embeddings[pair.query], embeddings[pair.target]
        valid = present[pair.query] & present[pair.target]
        known = [groups[side] for side in (pair.query, pair.target) if side in groups] if groups else []
        group = torch.stack(known, dim=1) if known else None
        scale, bias = scales[pair.name], biases[pair.name]
        if loss == "sigmoid":
            losses[pair.name] = sigmoid_loss(x, y, scale, bias, valid, group, dist)
        else:
            losses[pair.name] = infonce_loss(x, y, scale, valid, group, dist)
    return losses


if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"Medium": "peav.types:Modality"})
