"""What an engine run is made of: the steps of a recipe, as YAML has them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peav.engine.checks import CHECKS, Check
from peav.engine.segment import Segmenter
from peav.engine.stage import STAGES, Stage, identity_of
from peav.engine.template import Fallback
from peav.errors import RecipeError
from peav.recipes.config import from_mapping, from_options, read_mapping

Options = Mapping[str, Any] | str
"""Of a stage: `{class: NAME, option: value, ...}`, or its name alone."""


@dataclass(frozen=True)
class Duplicates:
    """What makes two clips one: bits in which their hashes differ at most, cosine of their embeddings at least.

    They need the filters `hashes` and `embedding`, which measure both.
    """

    distance: int | None = 20
    cosine: float | None = 0.98


@dataclass(frozen=True)
class TooOften:
    """A rewrite stands for too many clips: for more than `least`, and for more than a `share` of the run."""

    share: float = 0.01
    least: int = 10


@dataclass(frozen=True)
class EngineRecipe:
    """The steps of a run, in their order.

    Attributes:
        name: of the recipe.
        rows: of the manifest in a partition: the unit of work and of commit, and a shard of the output.
        segment: how rows become clips.
        filters, captioners: stages.
        duplicates: what repeats another clip is left out; None: it stays.
        score: the stage that says how well each weak caption fits its clip; None: no confidence.
        sample: how many clips of the run say what low, medium and high are.
        rewrite: the stage that makes the final captions.
        checks: names of what a rewrite is held against; None: all of `checks.CHECKS`.
        agreement: the stage that says whether a rewrite fits its clip; None: nobody looks.
        repeated: when a rewrite stands for too many clips.
    """

    name: str
    rows: int = 256
    segment: Segmenter = field(default_factory=Segmenter)
    filters: tuple[Options, ...] = ()
    captioners: tuple[Options, ...] = ()
    duplicates: Duplicates | None = None
    score: Options | None = None
    sample: int = 10_000
    rewrite: Options = "template"
    checks: tuple[str, ...] | None = None
    agreement: Options | None = None
    repeated: TooOften = field(default_factory=TooOften)

    def __post_init__(self) -> None:
        if self.rows < 1 or self.sample < 1:
            raise RecipeError(f"rows and sample are at least 1, not {self.rows} and {self.sample}")
        if not self.captioners:
            raise RecipeError("captioners: a recipe needs at least one, such as {class: tagger, model: tiny}")

    def text(self) -> str:
        """All of it, as JSON: what tells a run from another."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False, default=dict)


def read_recipe(path: str | Path, overrides: Mapping[str, str] | None = None) -> EngineRecipe:
    """A recipe by its file or the name of one that ships, `engine/stage1`. Raises RecipeError."""
    return from_mapping(EngineRecipe, read_mapping(Path(path), overrides))


def stage_of(options: Options, where: str) -> Stage:
    """A stage by its options; its name is that of its class where it is given none. Raises RecipeError."""
    named = _named(options)
    return from_options(Stage, STAGES, {"name": str(named.get("class")).rpartition(":")[2], **named}, where)


def weak_stages(recipe: EngineRecipe) -> list[Stage]:
    """What a clip goes through before the run as a whole is looked at."""
    stages = [stage_of(one, f"filters[{i}]") for i, one in enumerate(recipe.filters)]
    stages += [stage_of(one, f"captioners[{i}]") for i, one in enumerate(recipe.captioners)]
    if recipe.score is not None:
        stages.append(stage_of(recipe.score, "score"))
    names = [stage.name for stage in stages]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RecipeError(f"two steps are called {twice[0]!r}; give each its own name")
    return stages


def final_stages(recipe: EngineRecipe) -> list[Stage]:
    """What makes the final captions, once the run as a whole has been looked at.

    A rewriter that can be told why it was refused (it has an option `again`) is checked, asked once more, and checked
    again; what is still refused falls back to the template.
    """
    first = stage_of(recipe.rewrite, "rewrite")
    if not hasattr(first, "again"):
        return [first]
    second = stage_of({**_named(recipe.rewrite), "name": f"{first.name} again", "again": True}, "rewrite")
    prompt = str(getattr(first, "prompt", "rewrite_v1"))
    return [
        first,
        *_checks(recipe, "check", prompt),
        second,
        *_checks(recipe, "check again", prompt),
        Fallback("fallback"),
    ]


def _checks(recipe: EngineRecipe, name: str, prompt: str) -> list[Stage]:
    """What looks at a rewrite."""
    names = list(CHECKS) if recipe.checks is None else list(recipe.checks)
    stages: list[Stage] = [Check(name, names, prompt)]
    if recipe.agreement is not None:
        stages.append(stage_of({"name": f"agreement, {name}", **_named(recipe.agreement)}, "agreement"))
    return stages


_OF_STAGES = ("name", "filters", "captioners", "score", "rewrite", "agreement")


def _named(options: Options) -> dict[str, Any]:
    return {"class": options} if isinstance(options, str) else dict(options)


def settings_of(recipe: EngineRecipe) -> str:
    """The hash of all that a run's output depends on besides its clips: models and prompts, not only their names.

    Not what answers do not depend on, such as budgets and addresses: what is finished stays so where they change.
    """
    stages = [*weak_stages(recipe), *final_stages(recipe)]
    more = {key: value for key, value in asdict(recipe).items() if key not in _OF_STAGES}
    each = [[stage.name, identity_of(stage), stage.bars()] for stage in stages]
    said = json.dumps([more, *each], sort_keys=True, default=dict)
    return hashlib.sha256(said.encode()).hexdigest()[:32]
