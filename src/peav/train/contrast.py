"""The task of PE-AV: pairs of embeddings, BEST-RQ and timed words, measured by retrieval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from peav.data.collate import Batch, Collator
from peav.data.manifest import Row
from peav.distributed import ALONE, DistContext
from peav.lab.words import WordFrames
from peav.model import PEAV
from peav.objectives.best_rq import BestRQ
from peav.objectives.pairs import Embedding
from peav.train.evaluate import evaluate
from peav.train.feed import Feed
from peav.train.finetune import restrict
from peav.train.recipe import Objective, Recipe
from peav.train.step import Forward, Masking, Trainable


class Contrast:
    """Trains `model` in place; see `train.trainer.Task`."""

    def __init__(self, recipe: Recipe, model: PEAV, feed: Feed, collator: Collator, dist: DistContext = ALONE) -> None:
        self.recipe, self.feed, self.collator = recipe, feed, collator
        self.weights: Mapping[str, float] = loss_weights(recipe.objective)
        device = next(model.parameters()).device
        own = (self._best_rq(model), self._words(model))
        self.module = Trainable(model, recipe.objective, *own, dist, recipe.optim.buckets).to(device)
        model.audio.codec.requires_grad_(recipe.codec.trainable)
        model.video.frame_encoder.requires_grad_(not recipe.frames.frozen)
        model.recompute_layers(recipe.optim.recompute)
        if recipe.tune is not None:
            restrict(model, recipe.tune, recipe.objective.table(), recipe.seed)

    def losses(self, wrapped: nn.Module, batch: Batch, number: int) -> dict[str, Tensor]:
        """This process's share of each loss on its part of batch `number`."""
        if number == 0:
            self.module.start(batch)
        losses: dict[str, Tensor] = wrapped(batch, self._masking(number))
        return losses

    def evaluate(self, rows: Sequence[Row], candidates: int) -> dict[str, float]:
        """R@1 in every direction, see `train.evaluate`."""
        return evaluate(self._embed, rows, self.feed.cache, self.collator, candidates)

    def _embed(self, batch: Batch, wanted: Sequence[Embedding]) -> Forward:
        device = next(self.module.parameters()).device
        return self.module.embed(batch.to(device), wanted)

    def _masking(self, number: int) -> Masking | None:
        """Every clip's draws depend on the seed, the batch and its place in it alone, whoever computes it."""
        if self.module.best_rq is None:
            return None
        first = (self.recipe.seed * 1_000_003 + number) * self.feed.size
        generators = [torch.Generator().manual_seed(first + place) for place in self.feed.places]
        rows = torch.cat([torch.rand(1, generator=generator) for generator in generators])
        return Masking(self.module.best_rq, rows < self.recipe.objective.best_rq_rows, generators)

    def _best_rq(self, model: PEAV) -> BestRQ | None:
        if self.recipe.objective.best_rq_weight == 0:
            return None
        audio = model.config.audio
        return BestRQ(audio.codec.latent_dim, audio.transformer.hidden_size, codes=1024, seed=self.recipe.seed)

    def _words(self, model: PEAV) -> WordFrames | None:
        if not self.collator.words:
            return None
        return WordFrames(model.config.audio.transformer.hidden_size, len(self.collator.words))


def loss_weights(objective: Objective) -> dict[str, float]:
    """How much each loss counts: the pairs share a weight of one."""
    pairs = {pair.name: objective.weights.get(pair.name, 1.0) for pair in objective.table()}
    own = {"best_rq": objective.best_rq_weight, "words": objective.words_weight}
    return {name: weight / sum(pairs.values()) for name, weight in pairs.items()} | own
