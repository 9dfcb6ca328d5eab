"""Ablations: variants of one recipe at equal steps, several seeds each, as one table and one chart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

from pydantic import TypeAdapter

from peav.distributed import is_alone
from peav.errors import RecipeError, TrainingError
from peav.recipes.config import from_mapping, read_mapping
from peav.train.recipe import FIGURES, Recipe, read_recipe
from peav.utils.atomic import on_disk
from peav.utils.lock import FolderLock


@dataclass(frozen=True)
class Ablations:
    """What is compared.

    Attributes:
        base: the recipe that all variants change.
        output: folder of the runs, one below it for each.
        groups: by group and variant, the keys of the base that the variant changes, dotted, with their values. Variants
            that come to the same recipe are one run.
        seeds: each variant is trained once with each.
        figures: which of a run's test figures are compared.
    """

    name: str
    base: str
    output: str
    groups: Mapping[str, Mapping[str, Mapping[str, Any]]]
    seeds: tuple[int, ...] = (0, 1, 2)
    figures: tuple[str, ...] = FIGURES

    def __post_init__(self) -> None:
        on_disk(self.output, "output")
        if not self.groups or not all(self.groups.values()):
            raise RecipeError("groups: give at least one group, and each at least one variant")
        if not self.seeds:
            raise RecipeError("seeds: give at least one")


@dataclass(frozen=True)
class Run:
    """One training run of a variant. `recipe.output` is named after all that the recipe says."""

    group: str
    variant: str
    seed: int
    recipe: Recipe


@dataclass(frozen=True)
class Left:
    """Runs that `ablate` has no result of: those that failed, and those that other processes train."""

    failed: list[tuple[Run, TrainingError]] = field(default_factory=list)
    elsewhere: list[Run] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """A variant's figures on the test clips, one for each seed that had it."""

    group: str
    variant: str
    figures: Mapping[str, tuple[float, ...]]


def read_ablations(path: str | Path) -> Ablations:
    """Read a YAML file of `Ablations`. Raises RecipeError as `read_recipe` does."""
    return from_mapping(Ablations, read_mapping(Path(path)))


def runs(wanted: Ablations) -> Iterator[Run]:
    """Every run, seed by seed, so that all variants can be compared early.

    Raises:
        RecipeError: a variant asks for something that does not exist.
    """
    for seed in wanted.seeds:
        for group, variants in wanted.groups.items():
            for variant, changes in variants.items():
                yield Run(group, variant, seed, _recipe(wanted, changes, seed))


def ablate(wanted: Ablations, train: Callable[[Run], Mapping[str, Any]]) -> Left:
    """Carry all runs out that are not done yet. One that fails does not stop the others.

    Several processes may do so at once, on one machine or on several that share the folder: each run is one's.
    Processes that torchrun started train each run together and must be alone.

    Args:
        train: trains a run's recipe, going on where it was stopped, and returns its result.
    """
    left = Left()
    once: dict[str, Run] = {}
    for run in runs(wanted):  # all of them first: a mistake in the last variant is found before the first is trained
        once.setdefault(run.recipe.output, run)
    for run in once.values():
        try:
            with FolderLock(Path(run.recipe.output), _Elsewhere()) if is_alone() else nullcontext():
                if _result(run) is None:
                    train(run)
        except _Elsewhere:
            left.elsewhere.append(run)
        except TrainingError as error:
            left.failed.append((run, error))
    return replace(left, elsewhere=[run for run in left.elsewhere if _result(run) is None])


class _Elsewhere(Exception):
    """Another process trains the run."""


def outcomes(wanted: Ablations) -> list[Outcome]:
    """The figures of the runs that are done, by group and variant in the order of the file."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for run in runs(wanted):
        figures = found.setdefault((run.group, run.variant), {name: [] for name in wanted.figures})
        test = (_result(run) or {"test": {}})["test"]
        for name in wanted.figures:
            if name in test:
                figures[name].append(test[name])
    return [
        Outcome(group, variant, {name: tuple(values) for name, values in figures.items()})
        for (group, variant), figures in found.items()
    ]


def described(values: Sequence[float]) -> str:
    """Mean and range in per cent: `41.2 (39.0-43.1)`."""
    if not values:
        return "–"
    middle = f"{100 * mean(values):.1f}"
    return middle if len(values) == 1 else f"{middle} ({100 * min(values):.1f}-{100 * max(values):.1f})"


def _recipe(wanted: Ablations, changes: Mapping[str, Any], seed: int) -> Recipe:
    keys = {**changes, "seed": seed, "output": ""}
    written = {key: json.dumps(value, default=str) for key, value in keys.items()}  # JSON is YAML
    recipe = read_recipe(wanted.base, written)
    digest = hashlib.sha256(json.dumps(said(recipe), sort_keys=True).encode()).hexdigest()[:10]
    return replace(recipe, output=f"{wanted.output}/{digest}-{seed}")


def said(recipe: Recipe) -> dict[str, Any]:
    """A recipe without what is as by default: a key that a later version adds must not make old runs others."""
    told: dict[str, Any] = TypeAdapter(type(recipe)).dump_python(recipe, mode="json", exclude_defaults=True)
    return told


def _result(run: Run) -> dict[str, Any] | None:
    path = Path(run.recipe.output) / "result.json"
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result
