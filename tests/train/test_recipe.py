"""Recipes say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from peav.data.manifest import Row
from peav.errors import RecipeError
from peav.lab.ablate import read_ablations, runs
from peav.objectives.pairs import FINETUNE, PRETRAIN
from peav.recipes import SHIPPED, find_recipe
from peav.train.clips import Clips
from peav.train.recipe import Data, Optim, Recipe, Source, read_recipe

ABLATIONS = [SHIPPED / f"{name}.yaml" for name in ("ablations", "ablation_loss", "ablation_engine", "ablation_stage2")]
RECIPES = sorted({*SHIPPED.glob("*.yaml"), *SHIPPED.glob("mini/*.yaml")} - set(ABLATIONS))
MINIMAL = "{name: x, output: o, data: {cache: c, sources: [{place: m.jsonl}]}, optim: {steps: 3, batch_size: 2}}"


def read(tmp_path: Path, text: str, **overrides: str):
    (tmp_path / "r.yaml").write_text(text)
    return read_recipe(tmp_path / "r.yaml", {key.replace("__", "."): value for key, value in overrides.items()})


@pytest.mark.slow
@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_shipped_ablations_are_valid_and_headed_by_their_command(path: Path) -> None:
    wanted = read_ablations(path)
    assert wanted.name == path.stem
    assert path.read_text().startswith(f"# peav ablate {path.stem}\n")
    assert len({(run.group, run.recipe.optim.steps) for run in runs(wanted)}) == len(wanted.groups)  # equal in a group


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid_and_headed_by_their_command(path: Path) -> None:
    name = path.relative_to(SHIPPED).with_suffix("").as_posix()
    assert read_recipe(path).name == name.replace("/", "_")
    assert path.read_text().startswith(f"# peav train {name}\n")


def test_shipped_recipes_are_found_by_name_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("smoke", "smoke.yaml", "recipes/smoke.yaml"):
        assert read_recipe(name).name == "smoke"
    assert read_ablations("ablations").name == "ablations"
    assert next(runs(read_ablations("ablations"))).recipe.model == read_recipe("ablation_base").model
    own = SHIPPED.joinpath("smoke.yaml").read_text().replace("name: smoke", "name: mine")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "smoke.yaml").write_text(own)
    assert read_recipe("recipes/smoke.yaml").name == "mine"  # a file comes before a shipped recipe
    assert find_recipe("elsewhere/smoke.yaml") == Path("elsewhere/smoke.yaml")
    with pytest.raises(RecipeError, match=r"smok: no such recipe; .*, smoke, tiny,"):
        read_recipe("smok")


def test_defaults_are_the_papers_eight_pairs_with_sigmoid_loss(tmp_path: Path) -> None:
    recipe = read(tmp_path, MINIMAL)
    assert recipe.objective.table() == PRETRAIN
    assert recipe.objective.loss == "sigmoid"


def test_overrides_reach_nested_keys(tmp_path: Path) -> None:
    recipe = read(tmp_path, MINIMAL, optim__lr="2.0e-4", objective__pairs="finetune", codec__trainable="true")
    assert recipe.optim.lr == 2e-4
    assert recipe.objective.table() == FINETUNE
    assert recipe.codec.trainable


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"optim__speed": "3"}, r"optim\.speed: no such key"),
        ({"optim__steps": "many"}, r"optim\.steps: should be a valid integer, found 'many'"),
        ({"optim__steps": "0"}, r"optim\.steps must be at least 1"),
        (
            {"text__checkpoint": "tiny", "model": "runs/x/model"},
            r"text\.checkpoint: model 'runs/x/model' is a checkpoint",
        ),
        ({"optim__lr": "0"}, r"optim\.lr must be above 0"),
        ({"objective__loss": "hinge"}, r"objective\.loss: should be 'sigmoid' or 'infonce', found 'hinge'"),
        ({"objective__pairs": "[a_ac, b]"}, r"unknown \['b'\]"),
        ({"data__sources": "[{weight: 2}]"}, r"data\.sources\[0\]\.place: is missing"),
        ({"data__sources": "[]"}, r"data\.sources: give at least one"),
        ({"optim__betas": "[0.9]"}, r"optim\.betas\[1\]: is missing"),
        ({"optim__betas": "[0.9, 0.98, 1]"}, r"optim\.betas: .* at most 2 items"),
        ({"objective__pairs": "[a_ac, 3]"}, r"objective\.pairs\[1\]: should be a valid string, found 3"),
        ({"objective__auxiliary": "{best_rq: &own {a: *own}}"}, r"the recipe: holds what cannot be read"),
        ({"optim__steps": "true"}, r"optim\.steps: should be a valid integer, found True"),
        ({"tune": "{rnk: 1}"}, r"tune\.rnk: no such key; here are parts, rank, ema, fresh"),
        ({"optim__lr": "["}, r"optim\.lr: not YAML"),
        ({"name__first": "x"}, r"name\.first: name holds 'x'"),
        ({"checkpoint_every": "0"}, r"checkpoint_every must be at least 1"),
        ({"evaluation__every": "0"}, r"evaluation\.every must be at least 1"),
        ({"objective__auxiliary": "{best_rq: {weight: -1}}"}, r"best_rq: weight must be a number from 0 on"),
        ({"objective__auxiliary": "{'a.py:Own': {}, 'b.py:Own': {}}"}, r"two losses have the name Own"),
        ({"objective__auxiliary": "{'a.py:a_ac': {}}"}, r"two losses have the name a_ac"),
        ({"objective__auxiliary": "{best_rq: {weight: much}}"}, r"best_rq: weight must be a number from 0 on"),
        ({"objective__weights": "{b: 2}"}, r"weights: 'b' is not among the pairs"),
        ({"objective__weights": "{a_ac: 0}"}, r"weight must be above 0"),
        ({"objective__weights": "{a_ac: much}"}, r"objective\.weights\.a_ac: should be a valid number, found 'much'"),
        ({"objective__weights": "[a_ac]"}, r"objective\.weights: should be an object"),
    ],
)
def test_a_bad_value_is_named(tmp_path: Path, overrides: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read(tmp_path, MINIMAL, **overrides)


def test_powers_of_ten_need_no_point(tmp_path: Path) -> None:
    assert read(tmp_path, MINIMAL, optim__lr="1e-4").optim.lr == 1e-4


def test_a_recipe_that_is_not_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"r\.yaml: not YAML"):
        read(tmp_path, "name: [")


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"optim\.batch_size: is missing"):
        read(tmp_path, MINIMAL.replace(", batch_size: 2", ""))


def test_a_temperature_of_one_draws_every_clip_equally_often_and_higher_ones_favor_small_sources() -> None:
    clips = Clips([[Row("a")] * 100, [Row("b")] * 4], [1.0, 2.0], [], [])
    assert clips.shares(None) == [1.0, 2.0]
    assert clips.shares(1.0) == pytest.approx([100, 8])
    assert clips.shares(2.0) == pytest.approx([10, 4])


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"real_share": 1.5}, {"transcript_share": -0.1}])
def test_shares_and_temperatures_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        Data("cache", sources=(Source("m.jsonl"),), **wrong)


def test_buckets_and_shards_are_refused_together() -> None:
    optim = Optim(steps=1, batch_size=2, buckets=2)
    with pytest.raises(RecipeError, match=r"optim\.buckets"):
        Recipe("r", "out", Data("cache", sources=(Source("m.jsonl"),)), optim, parallel="fsdp")
