"""The cost of a recipe, counted without a model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from real_step import a_clip
from torch.utils.flop_counter import FlopCounterMode

from peav.checkpoint import load_model, resolve
from peav.errors import RecipeError
from peav.model import PEAV, preset
from peav.recipes import SHIPPED
from peav.train import Cluster, Media, plan, read_recipe
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
    assert four.memory["optimizer"] == one.memory["optimizer"]
    # Rows are dealt out, and the last device's share is padded.
    assert 4 * sharded.memory["optimizer"] == pytest.approx(four.memory["optimizer"], rel=0.01)
    assert 4 * sharded.memory["optimizer"] >= four.memory["optimizer"]
    assert not one.collectives
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"optim.bf16": "true", "optim.recompute": "true", "frames.frozen": "false", "frames.num_frames": "3"},
        {"optim.bf16": "true"},
        {"optim.bf16": "false", "objective.pairs": "[a_ac]"},
    ],
)
def test_a_planned_clip_costs_what_it_costs_in_a_real_step(changes: dict[str, str]) -> None:
    """Within a fiftieth: what is small beside the layers (heads, logits, masks of streams) is not counted."""
    fixed = {"model": "tiny", "data.max_seconds": "4", "optim.batch_size": "1", "objective.auxiliary": "{}"}
    recipe = read_recipe(SHIPPED / "tiny.yaml", fixed | changes)
    planned, found, kept, held = a_clip(recipe)
    assert planned == pytest.approx(found, rel=0.02)
    assert kept == pytest.approx(held, rel=0.02)


@pytest.mark.slow
def test_the_papers_first_phase_is_planned_on_1024_devices_with_its_decoding_and_network_stated() -> None:
    stated = Media(decode_seconds=0.5, bytes=4e6, clips=92_000_000)
    recipe = read_recipe(SHIPPED / "phase1_large.yaml", {"optim.batch_size": "3072"})
    some, many = (plan(recipe, cluster=Cluster(devices, network=25.0), media=stated) for devices in (48, 1024))
    assert some.compute_seconds == pytest.approx(many.compute_seconds * 1024 / 48)
    assert many.network_seconds is not None
    assert many.step_seconds == max(many.compute_seconds, many.network_seconds)
    assert many.hours == pytest.approx(1024 * many.step_seconds * recipe.optim.steps / 3600)
    assert many.data.clips_per_second == pytest.approx(3072 / many.step_seconds)
    assert many.data.storage == 4e6 * 92_000_000
    assert sum(many.memory.values()) < 80 * 2**30
    assert [reason for reason in many.refused if "memory" in reason] == []


@pytest.mark.slow
def test_a_run_that_decodes_needs_cores_for_the_clips_that_a_device_takes() -> None:
    """Pixels and samples are in the batch, the frozen codec in the step, and no features on the disk."""
    changes = {"model": "tiny", "optim.batch_size": "96"}
    recipe = read_recipe(SHIPPED / "phase1_small.yaml", changes)
    stated = Media(decode_seconds=0.25, bytes=2e6, clips=1000)
    features = plan(read_recipe(SHIPPED / "phase1_small.yaml", changes | {"data.decode": "null"}), 4, media=stated)
    cost = plan(recipe, 4, media=stated)
    assert (features.data.decodes, features.data.cores) == (False, 0)
    assert cost.data.decodes
    assert cost.data.cores == pytest.approx(96 / cost.step_seconds / 4 * 0.25)
    assert cost.data.read == pytest.approx(96 / cost.step_seconds * 2e6)
    assert (cost.data.features, cost.data.storage) == (0, 2e9)
    assert features.data.features == 750 * 128 * 2 + 8 * 64 * 64 * 3
    assert cost.step_flops == pytest.approx(features.step_flops + 96 * cost.flops["codec"])
    samples, pixels = 4 * 30 * 48000, 8 * 64 * 64 * 3
    assert cost.memory["two batches"] == 2 * 24 * (samples + pixels)
    unknown = plan(recipe, 4).data
    assert (unknown.cores, unknown.read, unknown.storage) == (None, None, None)


@pytest.mark.slow
def test_what_features_would_take_and_a_device_would_hold_is_refused_where_there_is_less(tmp_path: Path) -> None:
    many = Media(clips=92_000_000)
    changes = {"model": "tiny", "data.cache": str(tmp_path / "none" / "yet"), "optim.batch_size": "8"}
    changes |= {"data.decode": "null"}
    cost = plan(read_recipe(SHIPPED / "phase1_small.yaml", changes), cluster=Cluster(memory=0.1), media=many)
    memory, features = cost.refused
    assert "GiB of memory and has 0.1" in memory
    assert "data.cache" in features
    assert cost.data.all_features == 92_000_000 * cost.data.features


@pytest.mark.slow
def test_the_decode_rate_is_measured_on_the_recipes_own_clips(world: Path) -> None:
    changes = {"model": "nano", "data.sources": f"[{{place: {world / 'manifest.jsonl'}}}]"}
    media = plan(read_recipe(SHIPPED / "tiny.yaml", changes)).media
    assert media.clips == 20
    assert media.measured > 0
    assert media.decode_seconds is not None
    assert 0 < media.decode_seconds < 10
    sizes = [path.stat().st_size for path in world.rglob("*.mp4")]
    assert media.bytes is not None
    assert min(sizes) <= media.bytes <= max(sizes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"optim.batch_size": "100"}, "does not divide among 48 devices; set it to 96 or 144"),
        ({"optim.batch_size": "48", "data.max_seconds": "500"}, "takes 400 s at most, not 500"),
    ],
)
def test_what_the_first_step_would_stop_at_is_refused(changes: dict[str, str], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        plan(read_recipe(SHIPPED / "phase1_small.yaml", changes), 48)
