"""Who is told of every step of a run beside its log: the page of curves, and what a recipe's `report_to` names."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from peav.errors import RecipeError
from peav.train.curves import Curves, scalars
from peav.train.recipe import Recipe
from peav.train.train_checkpoint import states
from peav.utils.storage import write_all

OnStep = Callable[[Mapping[str, Any]], None]


@contextmanager
def tracked(recipe: Recipe, is_main: bool) -> Iterator[OnStep]:
    """Gives what is called with the log record of each step. The first process alone writes.

    Raises RecipeError where something that `report_to` names is not installed.
    """
    for name in recipe.report_to:
        # A folder of this name in the working directory, as W&B makes one, is found too, but has no origin.
        if (spec := find_spec(name)) is None or spec.origin is None:
            raise RecipeError(f"report_to: {name} is not installed: pip install {TRACKERS[name][1]}")
    with ExitStack() as stack:
        makers = [_page, *(TRACKERS[name][0] for name in recipe.report_to)]
        told = [stack.enter_context(maker(recipe)) for maker in makers if is_main]

        def on_step(record: Mapping[str, Any]) -> None:
            for one in told:
                one(record)

        yield on_step


@contextmanager
def _page(recipe: Recipe) -> Iterator[OnStep]:
    """`curves.html` at every evaluation and checkpoint, and at the end, whatever ends the run."""
    curves, begun = Curves(Path(recipe.output)), False

    def on_step(record: Mapping[str, Any]) -> None:
        nonlocal begun
        begun = True
        if "eval" in record or record["step"] % recipe.checkpoint_every == 0:
            curves.write()

    try:
        yield on_step
    finally:
        if begun:
            curves.write()


@contextmanager
def _tensorboard(recipe: Recipe) -> Iterator[OnStep]:
    """Events in the folder `tensorboard` of the run."""
    from torch.utils.tensorboard import SummaryWriter

    with ExitStack() as stack:
        writer: SummaryWriter | None = None

        def on_step(record: Mapping[str, Any]) -> None:
            nonlocal writer
            if writer is None:
                _wait_for_a_new_second(Path(recipe.output) / "tensorboard")
                # What a killed run wrote of this step and later ones is no longer shown.
                writer = SummaryWriter(Path(recipe.output) / "tensorboard", purge_step=record["step"])
                stack.callback(writer.close)
            for name, value in scalars(record).items():
                writer.add_scalar(name, value, record["step"])
            writer.flush()  # a run that is killed goes on from its checkpoint, whose steps must all be here

        yield on_step


def _wait_for_a_new_second(folder: Path) -> None:
    """TensorBoard reads files in the order of their names, which tell the second in which they were begun."""
    begun = [int(path.name.split(".")[3]) for path in folder.glob("events.out.tfevents.*")]
    while max(begun, default=0) == int(time.time()):
        time.sleep(0.05)


@contextmanager
def _wandb(recipe: Recipe) -> Iterator[OnStep]:
    """A run of Weights & Biases, the same one after a resume; WANDB_PROJECT, WANDB_MODE and the like are heeded."""
    import wandb

    output = Path(recipe.output)
    kept, begun = output / "wandb" / "id", states(output / "checkpoints")
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "peav"),
        name=recipe.name,
        id=kept.read_text() if begun and kept.exists() else None,
        resume="allow",
        dir=recipe.output,
        config=asdict(recipe),
    )
    write_all(kept, run.id)
    first, failed = run.step, 1

    def on_step(record: Mapping[str, Any]) -> None:
        if record["step"] >= first:  # steps that come again after a kill are there, with the same losses
            run.log(scalars(record), step=record["step"])

    try:
        yield on_step
        failed = 0
    finally:
        run.finish(exit_code=failed)


TRACKERS: dict[str, tuple[Callable[[Recipe], AbstractContextManager[OnStep]], str]] = {
    "tensorboard": (_tensorboard, "'peav[tensorboard]'"),
    "wandb": (_wandb, "wandb"),
}
"""What `report_to` may name, and what pip installs it."""
