"""What a worker does with a partition: one step of the run, from the rows and the journal to a file of results."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from peav.engine.ask import Asker
from peav.engine.cutting import clips_of
from peav.engine.decided import Decided, Repeated, summary_of
from peav.engine.endpoint import Endpoint
from peav.engine.journal import Journal, journal_path
from peav.engine.partition import Partition
from peav.engine.recipe import EngineRecipe, final_stages, weak_stages
from peav.engine.shards import write_shard
from peav.engine.stage import Stage
from peav.engine.template import Fallback, Template
from peav.recipes.config import from_mapping
from peav.utils.storage import write_all

Step = Literal["caption", "rewrite", "write"]
STEPS: tuple[Step, ...] = ("caption", "rewrite", "write")
"""Passes over all partitions, between which the run is looked at as a whole; each takes the clips farther."""


def steps_of(recipe: EngineRecipe) -> tuple[Step, ...]:
    """Those that a recipe needs: the template's captions are never refused for standing too often."""
    template = isinstance(final_stages(recipe)[0], Template)
    return tuple(step for step in STEPS if not (step == "rewrite" and template))


@dataclass(frozen=True)
class Job:
    """What a worker is told of a run.

    Attributes:
        out: its folder.
        recipe: as JSON.
        settings: the hash that the results are kept under, see `recipe.settings_of`.
        step: what is to be done.
        workers: how many there are, among whom budgets and rates are divided.
    """

    out: str
    recipe: str
    settings: str
    step: Step
    workers: int = 1


@dataclass(frozen=True)
class Task:
    """A partition, and what the run as a whole has decided of its clips."""

    partition: Partition
    fit: Mapping[str, Any] = field(default_factory=dict)
    duplicates: Mapping[str, str] = field(default_factory=dict)
    repeated: frozenset[str] = frozenset()
    alone: frozenset[str] = frozenset()  # keys of requests that a process died with in hand


@dataclass(frozen=True)
class Progress:
    """How many more rows are through, one of several clips by parts, and by stage how many clips were asked about and
    how many answers were known.
    """

    rows: float
    asked: Mapping[str, int]
    known: Mapping[str, int]


def work(job: Job, task: Task) -> Iterator[Progress]:
    """Carry out a step for a partition; runs in a worker process.

    Raises:
        StopAsking: a stage cannot go on.
        PeavError: a stage cannot be made ready, such as for a model that is missing.
    """
    out, partition = Path(job.out), task.partition
    journal = journal_path(out, partition.name)
    journal.parent.mkdir(parents=True, exist_ok=True)
    with Journal(journal) as answers:
        recipe = _of_recipe(job.recipe, job.settings, job.workers)[0]
        clips = clips_of(partition, recipe.segment, answers)
        asker = Asker(_stages(job, task), answers, journal.with_suffix(".hand"), task.alone)
        for count in asker.run(clips):
            yield Progress(count * len(partition.rows) / max(1, len(clips)), dict(asker.asked), dict(asker.known))
            asker.asked.clear()
            asker.known.clear()
    if job.step == "write":
        write_shard(out, partition, clips, job.settings)
    else:
        said = {"key": partition.key, "settings": job.settings, **summary_of(job.step, clips, recipe.sample)}
        write_all(summary_path(out, partition, job.step), json.dumps(said, ensure_ascii=False))


def summary_path(out: Path, partition: Partition, step: Step) -> Path:
    """What a step found in a partition that the run as a whole has to know."""
    return out / "summaries" / step / f"{partition.name}.json"


def _stages(job: Job, task: Task) -> list[Stage]:
    _, weak, final = _of_recipe(job.recipe, job.settings, job.workers)
    stages = list(weak)
    if job.step != "caption":
        stages += [Decided("decided", task.fit, task.duplicates), *final]
    if job.step == "write":
        stages += [Repeated("repeated", task.repeated), Fallback("fallback")]
    return stages


@lru_cache(maxsize=2)
def _of_recipe(text: str, _settings: str, workers: int) -> tuple[EngineRecipe, list[Stage], list[Stage]]:
    """A recipe and its stages; kept, with their models, from one partition to the next of the same settings: the
    prompts in its files are others under others.
    """
    gc.freeze()  # what is loaded by now stays: to look through it for garbage again and again takes a tenth of the time
    recipe = from_mapping(EngineRecipe, json.loads(text))
    weak, final = weak_stages(recipe), final_stages(recipe)
    for stage in [*weak, *final]:
        if isinstance(stage, Endpoint):
            stage.shared_by(workers)
    return recipe, weak, final
