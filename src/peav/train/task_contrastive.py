"""The task of PE-AV: pairs of embeddings and auxiliary losses, measured by retrieval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from peav.data.collate import Batch, Collator
from peav.data.manifest import Row
from peav.distributed import ALONE, DistContext
from peav.model import PEAV
from peav.objectives.auxiliary import AuxiliaryLoss, loss_name
from peav.objectives.pairs import Embedding
from peav.train.batches import Batches
from peav.train.contrastive_module import ContrastiveModule, Forward
from peav.train.evaluate import evaluate
from peav.train.finetune import set_trainable
from peav.train.recipe import Objective, Recipe


class ContrastiveTask:
    """Trains `model` in place; see `train.trainer.Task`."""

    def __init__(
        self,
        recipe: Recipe,
        model: PEAV,
        feed: Batches,
        collator: Collator,
        losses: Mapping[str, AuxiliaryLoss],
        dist: DistContext = ALONE,
    ) -> None:
        self.recipe, self.feed, self.collator = recipe, feed, collator
        self.weights: Mapping[str, float] = loss_weights(recipe.objective)
        device = next(model.parameters()).device
        self.module = ContrastiveModule(model, recipe.objective, losses, dist, recipe.optim.buckets).to(device)
        model.audio.codec.requires_grad_(recipe.codec.trainable)
        model.video.frame_encoder.requires_grad_(not recipe.frames.frozen)
        model.recompute_layers(recipe.optim.recompute)
        # Last: it leaves frozen what is frozen by now.
        if recipe.tune is not None:
            set_trainable(model, recipe.tune, recipe.objective.table(), recipe.seed)

    def losses(self, wrapped: nn.Module, batch: Batch, number: int) -> dict[str, Tensor]:
        """This process's share of each loss on its part of batch `number`."""
        if number == 0:
            self.module.start(batch)
        losses: dict[str, Tensor] = wrapped(batch, self._generators(number))
        return losses

    def evaluate(self, rows: Sequence[Row], candidates: int) -> dict[str, float]:
        """R@1 in every direction, see `train.evaluate`."""
        return evaluate(self._embed, rows, self.feed.cache, self.collator, candidates)

    def _embed(self, batch: Batch, wanted: Sequence[Embedding]) -> Forward:
        device = next(self.module.parameters()).device
        return self.module.embed(batch.to(device), wanted)

    def _generators(self, number: int) -> list[torch.Generator]:
        """Every clip's draws depend on the seed, the batch and its place in it alone, whoever computes it."""
        if not any(loss.hides for loss in self.module.losses.values()):
            return []
        # Runs of neighboring seeds would share draws after a million batches.
        first = (self.recipe.seed * 1_000_003 + number) * self.feed.size
        return [torch.Generator().manual_seed(first + place) for place in self.feed.places]


def loss_weights(objective: Objective) -> dict[str, float]:
    """How much each loss counts: the pairs share a weight of one."""
    pairs = {pair.name: objective.weights.get(pair.name, 1.0) for pair in objective.table()}
    shares = {name: weight / sum(pairs.values()) for name, weight in pairs.items()}
    return shares | {loss_name(key): float(options.get("weight", 1.0)) for key, options in objective.losses().items()}
