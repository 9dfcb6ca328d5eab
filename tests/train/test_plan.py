"""The cost of a recipe, counted without a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from peav.model import PEAV, preset
from peav.train import RecipeError, plan, read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


def test_parameters_and_operations_are_those_of_the_real_model() -> None:
    cost = plan(read_recipe(RECIPES / "tiny.yaml", {"data.max_seconds": "4"}))
    model = PEAV(preset("tiny"))
    assert cost.parameters == sum(parameter.numel() for parameter in model.parameters())
    frozen = sum(p.numel() for part in (model.audio.codec, model.video.frame_encoder) for p in part.parameters())
    assert cost.trainable == cost.parameters - frozen
    # Not exactly: which kernels of attention run, and are counted, differs between devices.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.frame_features(torch.zeros(8, 3, 64, 64))
    assert cost.flops["frame encoder"] == pytest.approx(counter.get_total_flops(), rel=0.1)
    with FlopCounterMode(display=False) as counter:
        model.text_hidden(torch.zeros(3, 64, dtype=torch.long)).sum().backward()
    assert cost.flops["text"] == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_devices_share_activations_always_and_weights_when_sharded() -> None:
    ddp = {"optim.batch_size": "96", "data.max_seconds": "4"}
    one, four = (plan(read_recipe(RECIPES / "tiny.yaml", ddp), devices) for devices in (1, 4))
    sharded = plan(read_recipe(RECIPES / "tiny.yaml", ddp | {"parallel": "fsdp"}), 4)
    assert four.memory["activations"] == one.memory["activations"] / 4
    assert four.memory["optimiser"] == one.memory["optimiser"] == 4 * sharded.memory["optimiser"]
    assert four.hours == one.hours
    assert plan(read_recipe(RECIPES / "tiny.yaml", ddp), 4, teraflops=200.0).hours == pytest.approx(2 * four.hours)


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_the_papers_first_phase_is_planned_without_allocating_it(size: str) -> None:
    cost = plan(read_recipe(RECIPES / f"phase1_{size}.yaml"), 48)
    assert cost.step_flops > 1e15
    assert cost.hours > 0


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(RecipeError, match="does not divide among 7"):
        plan(read_recipe(RECIPES / "tiny.yaml"), 7)
