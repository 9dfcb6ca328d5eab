"""What is decided of a run as a whole, between the passes over its partitions; see `survey` for how.

What was decided stands: a manifest that grew keeps its fit, and what was kept before is never dropped for a newcomer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peav.engine.decided import Decided
from peav.engine.duplicates import duplicates
from peav.engine.partition import Partition
from peav.engine.recipe import EngineRecipe, weak_stages
from peav.engine.stage import identity_of
from peav.engine.survey import fit_quantiles, repeated
from peav.engine.work import Step, Task, summary_path
from peav.utils.storage import write_all

FOLDER = "decisions"


class Decisions:
    """Of a run in folder `out`."""

    def __init__(self, out: Path, recipe: EngineRecipe) -> None:
        self.out, self.recipe = out, recipe
        self._fit: Mapping[str, Any] = {}
        self._duplicates: dict[int, dict[str, str]] = {}  # by partition
        self._repeated: frozenset[str] = frozenset()

    def task(self, step: Step, partition: Partition) -> Task:
        """A partition with what is decided of its clips."""
        if step == "caption":
            return Task(partition)
        return Task(partition, self._fit, self._duplicates.get(partition.number, {}), self._repeated)

    def held(self) -> Decided | None:
        """What was decided by an earlier run of the same captioners, for all its clips; None: nothing yet."""
        fit = self._read("fit")
        if fit.get("of") != self._of_fit():
            return None
        clips = self._read("duplicates").get("clips", {}) if self.recipe.duplicates is not None else {}
        return Decided("decided", fit, {clip: other for clip, other in clips.items() if other})

    def after(self, step: Step, every: Sequence[Partition]) -> None:
        """Decide what the next step has to know; `every` is all partitions of the run."""
        if step == "caption":
            self._fit = self._fitted(every)
            self._find_duplicates(every)
        elif step == "rewrite":
            counts = (self._said(step, one)["captions"] for one in every)
            found = repeated(counts, self.recipe.repeated.share, self.recipe.repeated.least)
            self._repeated = frozenset(f"{kind} {key}" for kind, keys in found.items() for key in keys)
            self._write("repeated", found)

    def _fitted(self, partitions: Sequence[Partition]) -> Mapping[str, Any]:
        """The fit that stands, if it is of these captioners and this score, and what it lacks; else a new one.

        It lacks a captioner of which all failed when it was made.
        """
        of = self._of_fit()
        new = {
            "of": of,
            **fit_quantiles((self._said("caption", one)["scores"] for one in partitions), self.recipe.sample),
        }
        held = self._read("fit")
        if held.get("of") == of:
            new["captioners"] |= held["captioners"]
        if new != held:
            self._write("fit", new)
        return new

    def _of_fit(self) -> list[Any]:
        stages = weak_stages(self.recipe)[len(self.recipe.filters) :]
        return [self.recipe.sample, *map(identity_of, stages)]

    def _find_duplicates(self, partitions: Sequence[Partition]) -> None:
        if self.recipe.duplicates is None:
            return
        filters = weak_stages(self.recipe)[: len(self.recipe.filters)]
        of = [asdict(self.recipe.duplicates), *map(identity_of, filters)]
        held = self._read("duplicates")
        earlier = held["clips"] if held.get("of") == of else {}
        summaries = (self._said("caption", one)["duplicates"] for one in partitions)
        found = duplicates(summaries, earlier, **asdict(self.recipe.duplicates))
        clips: dict[str, str | None] = {}
        for one in partitions:
            ids = self._said("caption", one)["duplicates"]
            clips |= {clip: found.get(clip) for clip in ids}
            self._duplicates[one.number] = {clip: found[clip] for clip in ids if clip in found}
        self._write("duplicates", {"of": of, "clips": clips})

    def _said(self, step: Step, partition: Partition) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(summary_path(self.out, partition, step).read_text(encoding="utf-8"))
        return said

    def _read(self, name: str) -> dict[str, Any]:
        path = self.out / FOLDER / f"{name}.json"
        held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return held

    def _write(self, name: str, held: Mapping[str, Any]) -> None:
        write_all(self.out / FOLDER / f"{name}.json", json.dumps(held, ensure_ascii=False))
