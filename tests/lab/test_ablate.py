"""Ablations train each variant once a seed, at equal steps, and show what was measured."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml
from training_runs import recipe_file
from typer.testing import CliRunner

from peav.cli.main import app
from peav.errors import RecipeError, TrainingError
from peav.lab.ablate import Left, Outcome, ablate, described, outcomes, read_ablations, runs, said
from peav.lab.chart import chart
from peav.train.recipe import Recipe
from peav.utils.lock import FolderLock

GROUPS = {
    "pairs": {"one": {"objective.pairs": ["a_ac"]}, "all": {}},
    "loss": {"sigmoid": {}, "InfoNCE": {"objective.loss": "infonce"}},
}


def ablation_file(folder: Path, world: Path, **changes) -> Path:
    base = recipe_file(folder, world, "base", steps=1)
    values = {
        "name": "a",
        "base": str(base),
        "output": str(folder / "runs"),
        "groups": GROUPS,
        "seeds": [0, 1],
    } | changes
    path = folder / "ablations.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def test_every_variant_is_the_base_with_its_changes_once_a_seed(world: Path, tmp_path: Path) -> None:
    found = list(runs(read_ablations(ablation_file(tmp_path, world))))
    assert [(run.variant, run.seed, run.recipe.seed) for run in found[:5]] == [
        ("one", 0, 0), ("all", 0, 0), ("sigmoid", 0, 0), ("InfoNCE", 0, 0), ("one", 1, 1),
    ]  # fmt: skip
    assert found[0].recipe.objective.pairs == ("a_ac",)
    assert found[3].recipe.objective.loss == "infonce"
    assert {run.recipe.optim.steps for run in found} == {1}


def test_variants_that_are_the_same_recipe_are_one_run(world: Path, tmp_path: Path) -> None:
    found = list(runs(read_ablations(ablation_file(tmp_path, world))))
    assert found[1].recipe == found[2].recipe
    assert len({run.recipe.output for run in found}) == 6


def test_what_is_done_is_not_trained_again(world: Path, tmp_path: Path) -> None:
    wanted = read_ablations(ablation_file(tmp_path, world, figures=["t2a", "a2v"]))
    trained = []

    def train(run):
        trained.append(run.recipe.output)
        result = {"test": {"t2a": len(trained) / 10}}
        (Path(run.recipe.output) / "result.json").write_text(json.dumps(result))
        return result

    assert ablate(wanted, train) == Left()
    found = outcomes(wanted)
    assert len(trained) == len(set(trained)) == 6
    assert found[0] == Outcome("pairs", "one", {"t2a": (0.1, 0.4), "a2v": ()})
    assert found[1].figures == found[2].figures
    assert ablate(wanted, train) == Left()
    assert outcomes(wanted) == found
    assert len(trained) == 6


def test_a_base_that_changed_is_another_run_and_a_default_that_is_written_out_is_not(
    world: Path, tmp_path: Path
) -> None:
    groups = {"loss": {"as it is": {}, "sigmoid": {"objective.loss": "sigmoid"}}}
    path = ablation_file(tmp_path, world, groups=groups, seeds=[0])
    before = [run.recipe.output for run in runs(read_ablations(path))]
    assert len(set(before)) == 1
    recipe_file(tmp_path, world, "base", steps=2)
    assert next(runs(read_ablations(path))).recipe.output not in before


def test_a_run_that_fails_is_named_and_the_others_go_on(world: Path, tmp_path: Path) -> None:
    trained = []

    def train(run):
        trained.append(run.variant)
        if run.variant == "one":
            raise TrainingError("the loss is not finite")

    left = ablate(read_ablations(ablation_file(tmp_path, world, seeds=[0])), train)
    assert [run.variant for run, _ in left.failed] == ["one"]
    assert trained == ["one", "all", "InfoNCE"]


@pytest.mark.slow
def test_processes_share_the_runs_and_each_is_trained_by_one(world: Path, tmp_path: Path) -> None:
    wanted = read_ablations(ablation_file(tmp_path, world))
    trained, seen = [], []

    def second(run):
        trained.append(run.recipe.output)
        (Path(run.recipe.output) / "result.json").write_text(json.dumps({"test": {}}))

    def first(run):
        seen.append(ablate(wanted, second))
        second(run)

    assert ablate(wanted, first) == Left()
    assert [[run.recipe.output for run in left.elsewhere] for left in seen] == [[next(runs(wanted)).recipe.output]]
    assert sorted(trained) == sorted({run.recipe.output for run in runs(wanted)})
    assert ablate(wanted, lambda run: pytest.fail("trained")) == Left()


def test_a_run_that_another_process_has_done_by_the_end_is_not_left(world: Path, tmp_path: Path) -> None:
    wanted = read_ablations(ablation_file(tmp_path, world, seeds=[0]))
    output = Path(next(runs(wanted)).recipe.output)
    other = FolderLock(output)

    def train(run):
        (output / "result.json").write_text(json.dumps({"test": {}}))

    assert ablate(wanted, train) == Left()
    other.release()


def test_the_processes_that_torchrun_started_train_each_run_together(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    wanted, trained = read_ablations(ablation_file(tmp_path, world, seeds=[0])), []

    def beside(run):
        trained.append(run.recipe.output)

    def first(run):
        beside(run)
        if len(trained) == 1:
            assert ablate(wanted, beside) == Left()

    assert ablate(wanted, first) == Left()
    assert trained[1:4] == trained[:1] + trained[4:]


def test_a_wrong_variant_is_found_before_anything_is_trained(world: Path, tmp_path: Path) -> None:
    groups = {"x": {"good": {}, "bad": {"objective.loss": "hinge"}}}
    with pytest.raises(RecipeError, match="hinge"):
        ablate(read_ablations(ablation_file(tmp_path, world, groups=groups)), lambda run: pytest.fail("trained"))


def test_figures_are_shown_with_their_range() -> None:
    assert described((0.5,)) == "50.0"
    assert described((0.1, 0.3)) == "20.0 (10.0-30.0)"
    assert described(()) == "–"


def test_the_chart_has_a_dot_for_each_seed_and_is_well_formed() -> None:
    found = [Outcome("a < b", "one", {"t2a": (0.1, 0.2)}), Outcome("a < b", "two", {"t2a": ()})]
    root = ElementTree.fromstring(chart(found, ["t2a"]))
    circles = [one for one in root.iter() if one.tag.endswith("circle")]
    assert len(circles) == 2
    assert "a < b" in [one.text for one in root.iter()]
    paper = root[0]  # below all else, so that it can be read on a dark page
    assert [paper.get(key) for key in ("width", "height", "fill")] == [root.get("width"), root.get("height"), "#fff"]


@pytest.mark.slow
def test_the_command_trains_and_draws(world: Path, tmp_path: Path) -> None:
    groups = {"pairs": {"one": {"objective.pairs": ["a_ac"]}, "all": {}}}
    path = ablation_file(tmp_path, world, groups=groups, seeds=[0])
    result = CliRunner().invoke(app, ["ablate", str(path), "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["results"]["rows"]
    assert [row["variant"] for row in rows] == ["one", "all"]
    assert (tmp_path / "runs" / "ablations.svg").exists()


def test_what_a_recipe_leaves_as_it_is_by_default_does_not_name_its_run(world: Path, tmp_path: Path) -> None:
    """Or a key that a later version adds would have every run trained again."""
    (run,) = runs(read_ablations(ablation_file(tmp_path, world, groups={"a": {"b": {}}}, seeds=[0])))

    @dataclass(frozen=True)
    class Later(Recipe):
        added: tuple[int, ...] = field(default_factory=lambda: (1, 2))

    later = Later(**vars(run.recipe))
    assert said(later) == said(run.recipe)
    assert said(replace(later, added=(3,))) == said(run.recipe) | {"added": [3]}
