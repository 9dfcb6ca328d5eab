"""The losses of the pairs that a model is trained on; the table of the pairs is `peav.model.pairs`."""

# Shapes: B samples, D width, G columns of groups: one for each side of a pair that has them.

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from peav.distributed import ALONE, DistContext
from peav.model.pairs import FINETUNE, PAIRS, PRETRAIN, Embedding, Pair, joint, media, text
from peav.objectives.contrastive import infonce_loss, sigmoid_loss
from peav.utils.renamed import renamed

__all__ = ["FINETUNE", "PAIRS", "PRETRAIN", "Embedding", "Pair", "joint", "media", "needed", "pair_losses", "text"]


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
        valid = present[pair.query] & present[pair.target]  # (B,)
        known = [groups[side] for side in (pair.query, pair.target) if side in groups] if groups else []
        group = torch.stack(known, dim=1) if known else None  # (B, G)
        scale, bias = scales[pair.name], biases[pair.name]
        if loss == "sigmoid":
            losses[pair.name] = sigmoid_loss(x, y, scale, bias, valid, group, dist)
        else:
            losses[pair.name] = infonce_loss(x, y, scale, valid, group, dist)
    return losses


if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"Medium": "peav.types:Modality"})
