"""The training loop: what a recipe says, step by step, with a log that can be continued."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from peav.checkpoint.atomic import atomic_write
from peav.data.collate import Batch, Collator
from peav.data.features import FeatureCache
from peav.data.manifest import Row
from peav.data.sampler import MixtureSampler
from peav.model import LOGIT_SCALE_INIT, PEAV
from peav.objectives.best_rq import BestRQ
from peav.objectives.pairs import needed, pair_losses
from peav.objectives.words import WordFrames
from peav.train.evaluate import evaluate
from peav.train.recipe import Recipe
from peav.train.state import load_state, save_state, states
from peav.train.step import Masking, Trainable, forward


class TrainingError(RuntimeError):
    """Training cannot go on; the message says what happened and what to change."""


class Trainer:
    """Trains `model` in place on clips whose features are cached.

    Args:
        sources: the training rows of each source, with `weights` their shares of a batch.
        held_out: rows for the periodic retrieval evaluation.
        on_step: called after each step with its log record.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: PEAV,
        cache: FeatureCache,
        collator: Collator,
        sources: Sequence[Sequence[Row]],
        weights: Sequence[float],
        held_out: Sequence[Row],
        on_step: Callable[[Mapping[str, Any]], None] = lambda record: None,
    ) -> None:
        self.recipe, self.cache, self.collator, self.on_step = recipe, cache, collator, on_step
        self.sources, self.held_out = sources, held_out
        self.pairs = recipe.objective.table()
        optim = recipe.optim
        self.sampler = MixtureSampler([len(rows) for rows in sources], weights, optim.batch_size, recipe.seed)
        if 0 in self.sampler.counts:
            raise TrainingError(
                f"a batch of {optim.batch_size} takes {list(self.sampler.counts)} clips from the sources: one would "
                "never be seen; raise optim.batch_size or its weight"
            )
        self.module = Trainable(model, self._best_rq(model), self._words(model))
        model.audio.codec.requires_grad_(recipe.codec.trainable)
        model.video.frame_encoder.requires_grad_(not recipe.frames.frozen)
        self.optimiser = torch.optim.AdamW(_groups(self.module, optim.weight_decay), lr=optim.lr, betas=optim.betas)
        self.output = Path(recipe.output)
        self.step = 0

    def run(self, resume: bool = False) -> dict[str, float]:
        """Train to the end and return the last evaluation.

        Raises:
            TrainingError: there is a run here already and `resume` is off, or the loss is not finite.
        """
        self._start(resume)
        loader = ThreadPoolExecutor(1)
        optim, evaluation = self.recipe.optim, self.recipe.evaluation
        try:
            ahead = self._ahead(loader, self.step)
            while self.step < optim.steps:
                began = time.perf_counter()
                batches = ahead.result()
                waited = time.perf_counter() - began
                ahead = self._ahead(loader, self.step + 1)
                record = self._step(batches)
                self.step += 1
                record |= {"wait": round(waited, 4), "seconds": round(time.perf_counter() - began, 3)}
                if self.step % evaluation.every == 0 and self.step < optim.steps:
                    record["eval"] = self.evaluate(evaluation.candidates)
                self._log(record)
                if self.step % self.recipe.checkpoint_every == 0 or self.step == optim.steps:
                    save_state(self.output / "checkpoints", self.step, self.module, self.optimiser)
        finally:
            loader.shutdown(cancel_futures=True)
        return self.evaluate(evaluation.final_candidates)

    def evaluate(self, candidates: int, rows: Sequence[Row] | None = None) -> dict[str, float]:
        """R@1 on the held-out rows, or on others, rounded to four places."""
        rows = self.held_out if rows is None else rows
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.optim.bf16):
            results = evaluate(self.module.model, rows, self.cache, self.collator, candidates)
        return {name: round(value, 4) for name, value in results.items()}

    def _start(self, resume: bool) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        found = states(self.output / "checkpoints")
        if found and not resume:
            raise TrainingError(f"{self.output} holds a run already; go on with --resume or choose another output")
        self._claim(bool(found))
        if found:
            self.step = load_state(found[-1], self.module, self.optimiser)
        log = self.output / "log.jsonl"
        kept = log.read_text(encoding="utf-8").splitlines(keepends=True)[: self.step] if log.exists() else []
        log.write_text("".join(kept), encoding="utf-8")

    def _claim(self, begun: bool) -> None:
        """Keep the recipe with the run; a run goes on by the recipe that it began with, or not at all."""
        path, recipe = self.output / "recipe.json", json.loads(json.dumps(asdict(self.recipe)))
        if begun and path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            changed = [key for key in recipe if recipe[key] != before.get(key) and key != "output"]
            if changed:
                raise TrainingError(
                    f"{path} differs from this recipe in {', '.join(changed)}: set that back, or choose another output"
                )
        with atomic_write(path) as temporary:
            Path(temporary).write_text(json.dumps(recipe, indent=1), encoding="utf-8")

    def _ahead(self, loader: ThreadPoolExecutor, step: int) -> Future[list[Batch]]:
        return loader.submit(self._load, step)

    def _load(self, step: int) -> list[Batch]:
        accumulate = self.recipe.optim.accumulate
        return [self._batch(step * accumulate + part) for part in range(accumulate)]

    def _batch(self, number: int) -> Batch:
        rows = [self.sources[source][index] for source, index in self.sampler.batch(number)]
        rng = np.random.default_rng((self.recipe.seed, 1, number))
        return self.collator(rows, [self.cache.load(row) for row in rows], rng)

    def _step(self, batches: Sequence[Batch]) -> dict[str, Any]:
        self.module.train()
        optim = self.recipe.optim
        rate = learning_rate(self.step, optim.steps, optim.warmup, optim.final_lr) * optim.lr
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        parts: list[dict[str, float]] = []
        for part, batch in enumerate(batches):
            losses = self._losses(batch, self.step * len(batches) + part)
            total = sum(losses.values(), torch.zeros(())) / len(batches)
            if not torch.isfinite(total):
                raise TrainingError(
                    f"the loss of step {self.step} is not finite; its clips are {', '.join(batch.ids)}; "
                    "lower optim.lr or look at these clips"
                )
            total.backward()
            parts.append({name: loss.item() for name, loss in losses.items()})
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), optim.clip_norm)
        if not torch.isfinite(norm):  # stepping would spoil the weights, and the next checkpoint with them
            raise TrainingError(f"the gradient of step {self.step} is not finite; lower optim.lr")
        self.optimiser.step()
        names = dict.fromkeys(name for part in parts for name in part)  # a batch without sound has no best_rq
        means = {name: float(np.mean([part.get(name, 0.0) for part in parts])) for name in names}
        return {
            "step": self.step + 1,
            "loss": sum(means.values()),
            "lr": rate,
            "norm": norm.item(),
            "losses": means,
        }

    def _losses(self, batch: Batch, number: int) -> dict[str, Tensor]:
        model, objective = self.module.model, self.recipe.objective
        wanted = needed(self.pairs)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.optim.bf16):
            output = forward(model, batch, wanted, self._masking(len(batch.ids), number), self.module.words)
        if number == 0:
            self._scale(output.embeddings)
        groups = {
            embedding: batch.texts[embedding.caption].groups
            for embedding in wanted
            if embedding.caption is not None and embedding.medium is None
        }
        losses = pair_losses(
            self.pairs,
            output.embeddings,
            output.present,
            model.logit_scale,
            model.logit_bias,
            objective.loss,
            groups,
        )
        losses = {name: loss / len(self.pairs) for name, loss in losses.items()}
        if output.best_rq is not None:
            losses["best_rq"] = output.best_rq[0] * objective.best_rq_weight
        if output.words is not None:
            losses["words"] = output.words[0] * objective.words_weight
        return losses

    def _masking(self, size: int, number: int) -> Masking | None:
        if self.module.best_rq is None:
            return None
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + number)
        rows = torch.rand(size, generator=generator) < self.recipe.objective.best_rq_rows
        return Masking(self.module.best_rq, rows, generator)

    @torch.no_grad()
    def _scale(self, embeddings: Mapping[Any, Tensor]) -> None:
        """Start untrained pairs' logits within +-10 whatever the norm of their embeddings (SigLIP, section 3.2).

        Untrained are all pairs of a fresh model, and in a checkpoint those whose scale stands where a new model's
        does or, as in the public files, at 0. A pair of which the first batch has no sample starts with the smallest
        of the others' scales.
        """
        scales = self.module.model.logit_scale
        untrained = [pair for pair in self.pairs if scales[pair.name].item() in (0.0, LOGIT_SCALE_INIT)]
        bounds: dict[str, float] = {}
        for pair in untrained:
            norms = [embeddings[side].float().norm(dim=-1).max() for side in (pair.query, pair.target)]
            bounds[pair.name] = float(norms[0] * norms[1])
        largest = max(bounds.values(), default=0.0)
        for name, bound in bounds.items():
            if largest > 0:
                scales[name].fill_(10 / (bound or largest))

    def _best_rq(self, model: PEAV) -> BestRQ | None:
        if self.recipe.objective.best_rq_weight == 0:
            return None
        audio = model.config.audio
        return BestRQ(audio.codec.latent_dim, audio.transformer.hidden_size, codes=1024, seed=self.recipe.seed)

    def _words(self, model: PEAV) -> WordFrames | None:
        if not self.collator.words:
            return None
        return WordFrames(model.config.audio.transformer.hidden_size, len(self.collator.words))

    def _log(self, record: dict[str, Any]) -> None:
        with open(self.output / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
        self.on_step(record)


def learning_rate(step: int, steps: int, warmup: int, final: float) -> float:
    """Linear warm-up, then a cosine from 1 to `final`: the factor for the step counted from 0."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; vectors (norms, biases, scales) and embeddings' tables of one row do not."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.squeeze().dim() >= 2]
    vectors = [parameter for parameter in trained if parameter.squeeze().dim() < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
