"""What tests of engine runs share: a runner in this process, a recipe of stubs, and what a run has left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from peav.engine.recipe import EngineRecipe
from peav.engine.work import Job, Progress, Task, work
from peav.recipes.config import from_mapping

STUB = Path(__file__).with_name("stub.py")
ROWS = 5


def here(job: Job, tasks: Iterable[Task]) -> Iterator[Progress | tuple[Task, Exception | None]]:
    """A runner in this process, which is quicker to start."""
    for task in tasks:
        yield from work(job, task)
        yield task, None


def recipe(log: Path, **changes: Any) -> EngineRecipe:
    """Two captioners and a rewriter; `changes` are options by the step's name."""
    steps = {
        name: {"class": f"{STUB}:{kind}", "name": name, "log": str(log)} | changes.pop(name, {})
        for name, kind in (("first", "Stub"), ("second", "Stub"), ("final", "Rewriter"))
    }
    return from_mapping(EngineRecipe, {"name": "stubs", "rows": ROWS, "captioners": [steps["first"], steps["second"]],
                                       "rewrite": steps["final"], **changes})  # fmt: skip


def line(number: int) -> dict[str, Any]:
    return {"id": f"c{number:02d}", "audio_path": f"{number}.wav", "duration": 1.0, "label": "dog", "split": "train"}


def asked(log: Path) -> list[str]:
    return sorted(log.read_text().splitlines()) if log.exists() else []


def shards(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "shards").glob("*"))}
