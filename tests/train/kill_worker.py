"""A training run that kills itself at a named point, as a power cut would.

python kill_worker.py RECIPE POINT COUNT        POINT is one of `POINTS`, reached for the COUNTth time
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # it runs as a program

from training_runs import Silent

import peav.utils.atomic as atomic
from peav.train import read_recipe, train
from peav.train.trainer import Trainer

FULL = "disk full"  # not a kill: from there on the disk takes no more
POINTS = ("step", "logged", "written in part", "before fsync", "between fsync and rename", "renamed", "never")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str, count: int) -> None:
    """Kill this process when it comes to the point for the `count`th time; checkpoints alone count for files."""
    left = [count]

    def reached(here: str, path: Path | None = None) -> bool:
        if here != point or (path is not None and "step-" not in path.name):
            return False
        left[0] -= 1
        return left[0] == 0

    def hook(owner: Any, name: str, before: str | None, after: str | None, is_path: bool) -> None:
        original = getattr(owner, name)

        def hooked(first: Any, *rest: Any, **options: Any) -> Any:
            path = first if is_path else None
            if before and reached(before, path):
                die()
            result = original(first, *rest, **options)
            if after and reached(after, path):
                die()
            return result

        setattr(owner, name, hooked)

    hook(Trainer, "_step", "step", None, False)
    hook(Trainer, "_log", None, "logged", False)
    hook(atomic, "sync", "before fsync", None, True)
    hook(Path, "replace", "between fsync and rename", "renamed", True)
    save = torch.save

    def half_save(state: Any, out: Any) -> None:
        if reached(FULL):
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        save(state, out)
        if reached("written in part"):
            die()

    torch.save = half_save


def note_ids(output: Path) -> None:
    """Append the ids of every step's batch to `ids.txt`, after its step."""
    step = Trainer._step

    def noted(self: Trainer, batches: Any) -> Any:
        record = step(self, batches)
        with open(output / "ids.txt", "a") as out:
            out.write(f"{self.step} {' '.join(batch_id for batch in batches for batch_id in batch.ids)}\n")
        return record

    Trainer._step = noted


def main() -> None:
    recipe = read_recipe(sys.argv[1])
    note_ids(Path(recipe.output))
    arm(sys.argv[2], int(sys.argv[3]))
    torch.set_num_threads(1)
    train(recipe, Silent(), resume=True)


if __name__ == "__main__":
    main()
