"""The training loop: what a recipe says, step by step, with a log that can be continued."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from peav.data.manifest import Row
from peav.distributed import ALONE, DistContext, full, wrap
from peav.errors import StateError, TrainingError
from peav.jobs import Stopped, stop_asked
from peav.model import PEAV, PLM, PEAFrame
from peav.model.lora import merge_low_rank
from peav.train.agreement import changes
from peav.train.batches import Batches
from peav.train.finetune import Average
from peav.train.meter import Meter
from peav.train.optimizer import make_optimizer, take_step
from peav.train.recipe import Recipe, recipe_of
from peav.train.train_checkpoint import load_state, remove_state, save_state, states, step_of
from peav.utils.storage import write_all

Model = PEAV | PEAFrame | PLM
MAY_CHANGE = ("output ", "report_to ", "data.decode.workers ")  # when a run goes on; as `changes` names them


class Task(Protocol):
    """What is trained, on what, and how it is measured.

    Attributes:
        module: the model, as its `model`, and the parts that only training needs; all of it is saved.
        feed: the batches, a property here so that a task may hold those of one kind.
        weights: how much each loss counts.
    """

    module: Any
    weights: Mapping[str, float]

    @property
    def feed(self) -> Batches: ...  # noqa: D102

    def losses(self, wrapped: nn.Module, batch: Any, number: int) -> dict[str, Tensor]:
        """This process's share of each loss on its part of batch `number`: fp32 scalars."""

    def evaluate(self, rows: Sequence[Row], candidates: int) -> dict[str, float]:
        """Figures on held-out rows; retrieval among `candidates` of them."""


class Trainer:
    """Carries a task out.

    Args:
        dist: the processes that share each batch.
        held_out: rows for the periodic evaluation.
        on_step: called after each step with its log record.
        meter: what it adds to a step's record; by default memory alone.
    """

    def __init__(
        self,
        recipe: Recipe,
        task: Task,
        held_out: Sequence[Row],
        on_step: Callable[[Mapping[str, Any]], None] = lambda record: None,
        dist: DistContext = ALONE,
        meter: Meter | None = None,
    ) -> None:
        self.recipe, self.task, self.held_out, self.on_step, self.dist = recipe, task, held_out, on_step, dist
        self.module = task.module
        self.device = next(self.module.parameters()).device
        self.meter = meter or Meter(self.device)
        self.average: Average | None = None
        if recipe.tune is not None and recipe.tune.ema:
            self.average = Average(self.module.model, recipe.tune.ema)
            self.module.add_module("average", self.average)
        self.wrapped = wrap(self.module, self.module.model.towers(), recipe.parallel, dist)
        # After wrapping: FSDP puts shards in the place of the module's parameters.
        self.optimizer = make_optimizer(self.module, recipe.optim)
        self.output = Path(recipe.output)
        self.step = 0

    def run(self, resume: bool = False) -> dict[str, float]:
        """Train to the end and return the last evaluation.

        Ctrl-C and SIGTERM end it after the step in hand, whose checkpoint is saved; a second one ends it at once.

        Raises:
            TrainingError: there is a run here already and `resume` is off, or the loss is not finite.
            Stopped: by a signal.
        """
        self._start(resume)
        loader = ThreadPoolExecutor(1)
        try:
            with stop_asked() as asked:
                self._loop(loader, asked)
        finally:
            # What it has begun goes on to its end: processes talk to each other there.
            loader.shutdown()
            self.task.feed.close()
        self._take_best()
        return self.evaluate(self.recipe.evaluation.final_candidates)

    def _loop(self, loader: ThreadPoolExecutor, asked: Callable[[], int]) -> None:
        """Every step that is left."""
        optim, evaluation = self.recipe.optim, self.recipe.evaluation
        ahead = loader.submit(self._load, self.step)
        while self.step < optim.steps:
            began = time.perf_counter()
            batches = ahead.result()
            waited = time.perf_counter() - began
            queue = self.task.feed.queue
            if self.step + 1 < optim.steps:  # no more: a batch that no step takes could fail, or list clips
                ahead = loader.submit(self._load, self.step + 1)  # while this step computes
            record = self._step(batches)
            self.step += 1
            record |= {"wait": round(waited, 4), "seconds": round(time.perf_counter() - began, 3)}
            record |= {} if queue is None else {"queue": queue}
            record |= self.meter(record)
            if self.step % evaluation.every == 0 and self.step < optim.steps:  # the end has one of its own
                record["eval"] = self.evaluate(evaluation.candidates)
                # Before the line is in the log, where `_best` looks for earlier figures. Weights that a kill leaves
                # ahead of the log are removed by `_start`.
                self._keep(record["eval"])
            # The log before the checkpoint: a kill in between leaves a line too many, which `_start` cuts off.
            self._log(record)
            signum = self._any(asked())
            if signum or self.step % self.recipe.checkpoint_every == 0 or self.step == optim.steps:
                save_state(self.output / "checkpoints", self.step, self.module, self.optimizer, self.dist)
            if signum:
                raise Stopped(signum)

    def evaluate(self, candidates: int, rows: Sequence[Row] | None = None) -> dict[str, float]:
        """The task's figures on the held-out rows, or on others, to four places; with the averaged weights, if any."""
        self.module.eval()
        averaged = nullcontext() if self.average is None else self.average.in_place()
        with averaged, torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.optim.bf16):
            results = self.task.evaluate(self.held_out if rows is None else rows, candidates)
        return {name: round(value, 4) for name, value in results.items()}

    def _keep(self, figures: Mapping[str, float]) -> None:
        """Save the weights where they are the best yet by the recipe's figure."""
        name = self.recipe.evaluation.keep
        if name is None:
            return
        if name not in figures:
            raise TrainingError(f"evaluation.keep: {name!r} is not among the figures {', '.join(figures)}")
        if self._agreed(figures[name] > self._best()):
            save_state(self.output / "best", self.step, self.module, self.optimizer, self.dist, keep=None)
            if self.dist.is_main:
                self._drop_older_best()

    def _drop_older_best(self) -> None:
        """Keep the newest best, and those that a run resumed from its checkpoint would want."""
        saved = [step_of(path) for path in states(self.output / "checkpoints")]
        covered = [path for path in states(self.output / "best") if saved and step_of(path) <= saved[-1]]
        for path in covered[:-1]:
            remove_state(path)

    def _best(self) -> float:
        """The highest figure in the log so far: of the steps that this run has done, wherever it was resumed."""
        log = self.output / "log.jsonl"
        records = map(json.loads, log.read_text(encoding="utf-8").splitlines()) if log.exists() else ()
        return max((r["eval"][self.recipe.evaluation.keep] for r in records if "eval" in r), default=-math.inf)

    def _take_best(self) -> None:
        """End with the best weights, if the recipe names a figure and the last ones are not the best."""
        name, kept = self.recipe.evaluation.keep, states(self.output / "best")
        if name is None or not kept:
            return
        if self._agreed(self.evaluate(self.recipe.evaluation.candidates).get(name, -math.inf) <= self._best()):
            load_state(kept[-1], self.module, self.optimizer, self.dist)
        if self.dist.is_main:
            for path in kept[:-1]:
                remove_state(path)

    def _agreed(self, mine: bool) -> bool:
        """What the first process says: it has the log."""
        return bool(self.dist.all_reduce_sum(torch.tensor(float(mine and self.dist.is_main), device=self.device)))

    def _any(self, signum: int) -> int:
        """The signal that came to any process, so that all stop after the same step; 0 for none."""
        return int(self.dist.all_reduce_max(torch.tensor(signum, device=self.device)))

    def whole_model(self) -> Model:
        """The model as one process would hold it, on the CPU, averaged and merged; every process must call this, once,
        when all is done.
        """
        if self.average is not None:
            self.average.swap()
        merge_low_rank(self.module.model)
        if self.dist.world_size == 1 or self.recipe.parallel == "ddp":
            alone: Model = self.module.model.cpu()
            return alone
        state = {name: full(value).cpu() for name, value in self.module.model.state_dict().items()}
        model: Model = type(self.module.model)(self.module.model.config)
        model.load_state_dict(state)
        return model

    def _start(self, resume: bool) -> None:
        found = earlier_states(self.output, resume)
        self._claim(bool(found))
        self.step = self._restore(found)
        # One reduction for the largest and the smallest.
        steps = torch.tensor([self.step, -self.step], device=self.device)
        if (self.dist.all_reduce_max(steps) != steps).any():
            raise TrainingError(
                f"processes found different checkpoints: {self.output} must be on a disk that all share"
            )
        log = self.output / "log.jsonl"
        if self.dist.is_main:
            # Lines beyond the checkpoint are of steps that come again.
            kept = log.read_text(encoding="utf-8").splitlines(keepends=True)[: self.step] if log.exists() else []
            write_all(log, "".join(kept))
            for path in states(self.output / "best"):
                if step_of(path) > self.step:  # of another course, or this one's, which comes again
                    remove_state(path)
        self.dist.barrier()

    def _restore(self, found: list[Path]) -> int:
        """Load the newest checkpoint that can be trusted and name those that cannot; the number of steps done."""
        reason = ""
        for path in reversed(found):
            try:
                return load_state(path, self.module, self.optimizer, self.dist)
            except StateError as error:
                if self.dist.is_main:
                    warnings.warn(f"{error}; going on from the one before it", stacklevel=2)
                reason = str(error)
        if found:
            raise TrainingError(
                f"no checkpoint in {found[0].parent} can be read, the oldest because of {reason}; "
                "remove them to start anew"
            )
        return 0

    def _claim(self, begun: bool) -> None:
        """Keep the recipe with the run; a run goes on by the recipe that it began with, or not at all."""
        path, recipe = self.output / "recipe.json", json.loads(json.dumps(asdict(self.recipe)))
        if begun and path.exists():
            # Through the dataclass: keys that came later then have their defaults, and a run of an older version goes
            # on.
            before = asdict(recipe_of(json.loads(path.read_text(encoding="utf-8"))))
            before = json.loads(json.dumps(before))  # tuples as lists, as in `recipe`
            found = [name for key in recipe for name in changes(key, before[key], recipe[key])]
            if changed := [name for name in found if not name.startswith(MAY_CHANGE)]:
                raise TrainingError(
                    f"{path} differs from this recipe in {', '.join(changed)}: set that back, or choose another output"
                )
        if self.dist.is_main:
            write_all(path, json.dumps(recipe, indent=1))

    def _load(self, step: int) -> list[Any]:
        accumulate = self.recipe.optim.accumulate
        return [self.task.feed.batch(step * accumulate + part).to(self.device) for part in range(accumulate)]

    def _step(self, batches: Sequence[Any]) -> dict[str, Any]:
        self.module.train()
        optim = self.recipe.optim
        rate = learning_rate(self.step, optim.steps, optim.warmup, optim.final_lr) * optim.lr
        # None and not zeros, by which AdamW would move and decay what had no gradient in a step.
        self.optimizer.zero_grad(set_to_none=True)
        parts = [self._backward(batch, self.step * len(batches) + part) for part, batch in enumerate(batches)]
        norm = take_step(self.optimizer, rate, optim.clip_norm)
        if not torch.isfinite(norm):
            raise TrainingError(f"the gradient of step {self.step} is not finite; lower optim.lr")
        if self.average is not None:
            self.average.update(self.step)
        means = {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}
        return {
            "step": self.step + 1,
            "loss": sum(self.task.weights[name] * mean for name, mean in means.items()),
            "lr": rate,
            "norm": norm.item(),
            "clips": self.task.feed.size * len(batches),
            "losses": means,
        }

    def _backward(self, batch: Any, number: int) -> dict[str, float]:
        """Add one batch's gradients; the losses of the whole batch."""
        optim = self.recipe.optim
        with torch.autocast(self.device.type, torch.bfloat16, enabled=optim.bf16):
            losses = self.task.losses(self.wrapped, batch, number)
        shares = torch.stack(list(losses.values()))
        weights = torch.tensor([self.task.weights[name] for name in losses], device=self.device)
        # Of all processes, so that one that is not finite stops all of them.
        values = self.dist.all_reduce_sum(shares)
        if not torch.isfinite(values).all():
            raise TrainingError(
                f"the loss of step {self.step} is not finite; its clips are {', '.join(self.task.feed.ids(number))}; "
                "lower optim.lr or look at these clips"
            )
        # Processes average their gradients, while the shares of a loss add up.
        ((shares * weights).sum() * self.dist.world_size / optim.accumulate).backward()
        return dict(zip(losses, values.tolist(), strict=True))

    def _log(self, record: dict[str, Any]) -> None:
        if self.dist.is_main:
            with open(self.output / "log.jsonl", "a", encoding="utf-8") as log:
                log.write(json.dumps(record) + "\n")
        self.on_step(record)


def earlier_states(output: Path, resume: bool) -> list[Path]:
    """The checkpoints of the run in `output`. Raises TrainingError where there are some and `resume` is off."""
    found = states(output / "checkpoints")
    if found and not resume:
        raise TrainingError(
            f"{output} holds a run already; go on with --resume (in Python: resume=True), or choose another output"
        )
    return found


def data_wait(output: Path) -> float:
    """The share of the time of a run's steps that was spent waiting for data, after its log; evaluation apart."""
    records = [json.loads(line) for line in (output / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return round(sum(r["wait"] for r in records) / max(sum(r["seconds"] for r in records), 1e-9), 4)


def learning_rate(step: int, steps: int, warmup: int, final: float) -> float:
    """Linear warm-up, then a cosine from 1 to `final`: the factor for the step counted from 0."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))
