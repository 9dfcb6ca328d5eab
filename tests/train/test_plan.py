"""The cost of a recipe, counted without a model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from peav.checkpoint import load_model, resolve
from peav.errors import RecipeError
from peav.model import PEAV, preset
from peav.recipes import SHIPPED
from peav.train import plan, read_recipe
from peav.train.finetune import set_trainable


@pytest.mark.slow
def test_parameters_and_operations_are_those_of_the_real_model() -> None:
    cost = plan(read_recipe(SHIPPED / "tiny.yaml", {"data.max_seconds": "4"}))
    model = PEAV(preset("tiny"))
    assert cost.parameters == sum(parameter.numel() for parameter in model.parameters())
    frozen = sum(p.numel() for part in (model.audio.codec, model.video.frame_encoder) for p in part.parameters())
    assert cost.trainable == cost.parameters - frozen
    # Not exactly: which kernels of attention run, and are counted, differs between devices.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.frame_features(torch.zeros(8, 3, 64, 64))
    assert cost.flops["frame encoder"] == pytest.approx(counter.get_total_flops(), rel=0.1)
    with FlopCounterMode(display=False) as counter:
        model.text_pooled(torch.zeros(3, 64, dtype=torch.long)).sum().backward()
    assert cost.flops["text"] == pytest.approx(counter.get_total_flops(), rel=0.1)


@pytest.mark.slow
def test_devices_share_activations_always_and_weights_when_sharded() -> None:
    ddp = {"optim.batch_size": "96", "data.max_seconds": "4"}
    one, four = (plan(read_recipe(SHIPPED / "tiny.yaml", ddp), devices) for devices in (1, 4))
    sharded = plan(read_recipe(SHIPPED / "tiny.yaml", ddp | {"parallel": "fsdp"}), 4)
    assert four.memory["activations"] == one.memory["activations"] / 4
    assert four.memory["optimizer"] == one.memory["optimizer"] == 4 * sharded.memory["optimizer"]
    assert four.hours == one.hours
    assert plan(read_recipe(SHIPPED / "tiny.yaml", ddp), 4, teraflops=200.0).hours == pytest.approx(2 * four.hours)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_the_papers_first_phase_is_planned_without_allocating_it(size: str) -> None:
    cost = plan(read_recipe(SHIPPED / f"phase1_{size}.yaml"), 48)
    assert cost.step_flops > 1e15
    assert cost.hours > 0


@pytest.mark.slow
def test_fine_tuning_is_planned_from_a_checkpoints_config_alone(tmp_path: Path) -> None:
    shutil.copy(resolve("tiny") / "config.json", tmp_path)
    recipe = read_recipe(SHIPPED / "finetune.yaml", {"model": str(tmp_path)})
    cost, whole = plan(recipe), plan(replace(recipe, tune=replace(recipe.tune, rank=0)))
    model = load_model("tiny")
    assert whole.parameters == sum(parameter.numel() for parameter in model.parameters())
    for part in (model.audio.codec, model.video.frame_encoder):
        part.requires_grad_(False)
    set_trainable(model, recipe.tune, recipe.objective.table())
    assert cost.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert cost.parameters > whole.parameters
    assert cost.memory["optimizer"] < whole.memory["optimizer"]
    assert cost.flops["text"] < whole.flops["text"]
    assert cost.flops["frame encoder"] == whole.flops["frame encoder"]


@pytest.mark.slow
def test_a_run_whose_model_is_yet_to_be_trained_is_planned_with_its_preset() -> None:
    with pytest.raises(RecipeError, match=r"no directory 'runs/phase1_small/model'.*model: small-16-frame"):
        plan(read_recipe(SHIPPED / "phase2_small.yaml"), 48)
    cost = plan(read_recipe(SHIPPED / "phase2_small.yaml", {"model": "small-16-frame"}), 48)
    assert cost.hours > 0


def test_training_of_frames_is_not_planned() -> None:
    with pytest.raises(RecipeError, match="align"):
        plan(read_recipe(SHIPPED / "frame_tiny.yaml"))


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(RecipeError, match="does not divide among 7"):
        plan(read_recipe(SHIPPED / "tiny.yaml"), 7)
