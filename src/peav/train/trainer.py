"""The training loop: what a recipe says, step by step, with a log that can be continued."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from peav.checkpoint.atomic import atomic_write
from peav.data.collate import Batch, Collator
from peav.data.features import FeatureCache
from peav.data.manifest import Row
from peav.data.sampler import MixtureSampler
from peav.data.splice import Splicer, bare
from peav.model import PEAV
from peav.objectives.best_rq import BestRQ
from peav.objectives.pairs import Embedding
from peav.objectives.ranks import ALONE, Ranks
from peav.objectives.words import WordFrames
from peav.train.evaluate import evaluate
from peav.train.finetune import Average, restrict
from peav.train.lora import merge_low_rank
from peav.train.parallel import wrap
from peav.train.recipe import Objective, Recipe
from peav.train.state import StateError, load_state, save_state, states
from peav.train.step import Forward, Masking, Trainable


class TrainingError(RuntimeError):
    """Training cannot go on; the message says what happened and what to change."""


class Trainer:
    """Trains `model` in place on clips whose features are cached.

    Args:
        sources: the training rows of each source, with `weights` their shares of a batch.
        splicers: makes a near miss for every clip of the sources at these places.
        ranks: the processes that share each batch.
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
        splicers: Mapping[int, Splicer] = MappingProxyType({}),
        ranks: Ranks = ALONE,
    ) -> None:
        self.recipe, self.cache, self.collator, self.on_step = recipe, cache, collator, on_step
        self.sources, self.held_out, self.ranks, self.splicers = sources, held_out, ranks, splicers
        self.device = next(model.parameters()).device
        optim = recipe.optim
        self.sampler = MixtureSampler([len(rows) for rows in sources], weights, optim.batch_size, recipe.seed)
        self.size = optim.batch_size + sum(self.sampler.counts[source] for source in splicers)
        if self.size % ranks.size:
            raise TrainingError(
                f"{self.size} clips a batch do not divide among {ranks.size} processes; change optim.batch_size"
                f"{' (near misses come on top of it)' if splicers else ''}"
            )
        if 0 in self.sampler.counts:
            raise TrainingError(
                f"a batch of {optim.batch_size} takes {list(self.sampler.counts)} clips from the sources: one would "
                "never be seen; raise optim.batch_size or its weight"
            )
        self.module = Trainable(model, recipe.objective, self._best_rq(model), self._words(model), ranks)
        self.module.to(self.device)
        model.audio.codec.requires_grad_(recipe.codec.trainable)
        model.video.frame_encoder.requires_grad_(not recipe.frames.frozen)
        model.recompute_layers(optim.recompute)
        if recipe.tune is not None:
            restrict(model, recipe.tune, recipe.objective.table(), recipe.seed)
        self.average: Average | None = None
        if recipe.tune is not None and recipe.tune.ema:
            self.average = Average(model, recipe.tune.ema)
            self.module.add_module("average", self.average)
        self.wrapped = wrap(self.module, recipe.parallel, ranks)
        self._weights = loss_weights(recipe.objective)
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
                    save_state(self.output / "checkpoints", self.step, self.module, self.optimiser, self.ranks)
        finally:
            loader.shutdown(cancel_futures=True)
        return self.evaluate(evaluation.final_candidates)

    def evaluate(self, candidates: int, rows: Sequence[Row] | None = None) -> dict[str, float]:
        """R@1 on the held-out rows, or on others, rounded to four places; with the averaged weights, if any."""
        rows = self.held_out if rows is None else rows
        averaged = nullcontext() if self.average is None else self.average.in_place()
        with averaged, torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.optim.bf16):
            results = evaluate(self._embed, rows, self.cache, self.collator, candidates)
        return {name: round(value, 4) for name, value in results.items()}

    def _embed(self, batch: Batch, wanted: Sequence[Embedding]) -> Forward:
        self.module.eval()
        return self.module.embed(batch.to(self.device), wanted)

    def whole_model(self) -> PEAV:
        """The model as one process would hold it, on the CPU, averaged and merged; every process must call this, once,
        when all is done."""
        if self.average is not None:
            self.average.swap()
        merge_low_rank(self.module.model)
        if self.ranks.size == 1 or self.recipe.parallel == "ddp":
            return self.module.model.cpu()
        state = {name: full(value).cpu() for name, value in self.module.model.state_dict().items()}
        model = PEAV(self.module.model.config)
        model.load_state_dict(state)
        return model

    def _start(self, resume: bool) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        found = earlier_states(self.output, resume)
        self._claim(bool(found))
        self.step = self._restore(found)
        log = self.output / "log.jsonl"
        if self.ranks.first:
            kept = log.read_text(encoding="utf-8").splitlines(keepends=True)[: self.step] if log.exists() else []
            log.write_text("".join(kept), encoding="utf-8")
        self.ranks.wait()

    def _restore(self, found: list[Path]) -> int:
        """Load the newest checkpoint that can be trusted and name those that cannot; the number of steps done."""
        for path in reversed(found):
            try:
                return load_state(path, self.module, self.optimiser)
            except StateError as error:
                warnings.warn(f"{error}; going on from the one before it", stacklevel=2)
        if found:
            raise TrainingError(f"no checkpoint in {found[0].parent} can be read; remove them to start anew")
        return 0

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
        if self.ranks.first:
            with atomic_write(path) as temporary:
                Path(temporary).write_text(json.dumps(recipe, indent=1), encoding="utf-8")

    def _ahead(self, loader: ThreadPoolExecutor, step: int) -> Future[list[Batch]]:
        return loader.submit(self._load, step)

    def _load(self, step: int) -> list[Batch]:
        accumulate = self.recipe.optim.accumulate
        return [self._batch(step * accumulate + part) for part in range(accumulate)]

    def _batch(self, number: int) -> Batch:
        places, part = self._places(number), self.ranks.deal(self.size)
        # Bare even where another process splices them: captions are drawn for all rows by one generator.
        rows = [row if splicer is None else bare(row) for row, splicer in places]
        clips = []
        for place in range(self.size)[part]:
            row, splicer = places[place]
            if splicer is None:
                clips.append(self.cache.load(row))
            else:
                rows[place], clip = splicer(row, np.random.default_rng((self.recipe.seed, 2, number, place)))
                clips.append(clip)
        rng = np.random.default_rng((self.recipe.seed, 1, number))
        return self.collator(rows, clips, rng, part).to(self.device)

    def _places(self, number: int) -> list[tuple[Row, Splicer | None]]:
        """The clips of a batch, and after each of a spliced source the same clip with what makes its near miss."""
        places: list[tuple[Row, Splicer | None]] = []
        for source, index in self.sampler.batch(number):
            row, splicer = self.sources[source][index], self.splicers.get(source)
            places += [(row, None)] if splicer is None else [(row, None), (row, splicer)]
        return places

    def _ids(self, number: int) -> list[str]:
        return [row.id for row, _ in self._places(number)]

    def _step(self, batches: Sequence[Batch]) -> dict[str, Any]:
        self.module.train()
        optim = self.recipe.optim
        rate = learning_rate(self.step, optim.steps, optim.warmup, optim.final_lr) * optim.lr
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        parts = [self._backward(batch, self.step * len(batches) + part) for part, batch in enumerate(batches)]
        norm = full(nn.utils.clip_grad_norm_(self.module.parameters(), optim.clip_norm))
        if not torch.isfinite(norm):  # stepping would spoil the weights, and the next checkpoint with them
            raise TrainingError(f"the gradient of step {self.step} is not finite; lower optim.lr")
        self.optimiser.step()
        if self.average is not None:
            self.average.update(self.step)
        means = {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}
        return {
            "step": self.step + 1,
            "loss": sum(self._weights[name] * mean for name, mean in means.items()),
            "lr": rate,
            "norm": norm.item(),
            "losses": means,
        }

    def _backward(self, batch: Batch, number: int) -> dict[str, float]:
        """Add one batch's gradients; the losses of the whole batch."""
        optim = self.recipe.optim
        with torch.autocast(self.device.type, torch.bfloat16, enabled=optim.bf16):
            losses = self.wrapped(batch, self._masking(number), first=number == 0)
        shares = torch.stack(list(losses.values()))
        weights = torch.tensor([self._weights[name] for name in losses], device=self.device)
        values = self.ranks.total(shares)
        if not torch.isfinite(values).all():
            raise TrainingError(
                f"the loss of step {self.step} is not finite; its clips are {', '.join(self._ids(number))}; "
                "lower optim.lr or look at these clips"
            )
        # Processes average their gradients, while the shares of a loss add up.
        ((shares * weights).sum() * self.ranks.size / optim.accumulate).backward()
        return dict(zip(losses, values.tolist(), strict=True))

    def _masking(self, number: int) -> Masking | None:
        """Every clip's draws depend on the seed, the batch and its place in it alone, whoever computes it."""
        if self.module.best_rq is None:
            return None
        places = range(self.size)[self.ranks.deal(self.size)]
        first = (self.recipe.seed * 1_000_003 + number) * self.size
        generators = [torch.Generator().manual_seed(first + place) for place in places]
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

    def _log(self, record: dict[str, Any]) -> None:
        if self.ranks.first:
            with open(self.output / "log.jsonl", "a", encoding="utf-8") as log:
                log.write(json.dumps(record) + "\n")
        self.on_step(record)


def earlier_states(output: Path, resume: bool) -> list[Path]:
    """The checkpoints of the run in `output`. Raises TrainingError where there are some and `resume` is off."""
    found = states(output / "checkpoints")
    if found and not resume:
        raise TrainingError(f"{output} holds a run already; go on with --resume or choose another output")
    return found


def learning_rate(step: int, steps: int, warmup: int, final: float) -> float:
    """Linear warm-up, then a cosine from 1 to `final`: the factor for the step counted from 0."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))


def loss_weights(objective: Objective) -> dict[str, float]:
    """How much each loss counts: the pairs share a weight of one."""
    pairs = {pair.name: objective.weights.get(pair.name, 1.0) for pair in objective.table()}
    own = {"best_rq": objective.best_rq_weight, "words": objective.words_weight}
    return {name: weight / sum(pairs.values()) for name, weight in pairs.items()} | own


def full(value: Tensor) -> Tensor:
    """A tensor that processes may hold in shards, whole."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; vectors (norms, biases, scales) and embeddings' tables of one row do not."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.squeeze().dim() >= 2]
    vectors = [parameter for parameter in trained if parameter.squeeze().dim() < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
