"""Two processes with half a batch each are one process with the whole of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from parallel_worker import losses_and_gradients
from training_runs import Silent, losses, recipe_file

from peav.distributed import ALONE
from peav.train import read_recipe, train
from peav.train.train_checkpoint import remove_state, states

SEEDS = range(12)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "fsdp"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5), ("bfloat16", 5e-3)])
def test_two_processes_have_the_losses_and_gradients_of_one(
    how: str, dtype: str, tolerance: float, tmp_path: Path
) -> None:
    """All ten pairs, both losses, BEST-RQ and words; streams missing at random, in some seeds from a whole process.

    In fp64 every parameter's gradient agrees relative to itself, or to a thousandth of the whole gradient where it is
    less: a bias whose gradient is a small difference of large terms. In fp32 that is rounded by more in one process
    too, so every parameter is held to the whole gradient. Logits of +-10 are rounded such that one process with two
    threads and not one differs from itself by 2e-6 in seed 4: fp64 shows that the sums are the same, fp32 that nothing
    is computed twice or left out. So it is under autocast, where the first step begins with what `start` has cast.
    """
    worker, out = Path(__file__).with_name("parallel_worker.py"), tmp_path / "found.pt"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*command, str(worker), str(out), how, dtype, *map(str, SEEDS)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    found = torch.load(out)
    for seed in SEEDS:
        losses, gradients = losses_and_gradients(seed, how, ALONE, getattr(torch, dtype))
        assert found[seed][0] == pytest.approx(losses, rel=tolerance), seed
        whole = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
        assert whole > 0
        for name, gradient in gradients.items():
            assert bool(found[seed][1][name].any()) == bool(gradient.any()), (seed, name)
            error = (found[seed][1][name] - gradient).norm()
            scale = max(gradient.norm(), 1e-3 * whole) if dtype == "float64" else whole
            assert error <= tolerance * scale, (seed, name)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_a_run_shared_by_two_processes_goes_on_alone_with_the_same_losses(
    how: str, world: Path, tmp_path: Path
) -> None:
    """torchrun, a kill after step four, then one process to the end: as one process all the way, up to rounding.

    One source is spliced, so that processes must agree on what is drawn for near misses that they do not make.
    """
    manifest = str(world / "manifest.jsonl")
    spliced = {"place": manifest, "transforms": ["transcripts", {"class": "word_swap", "share": 0.5}]}
    data = {"data": {"sources": [{"place": manifest}, spliced]}}
    train(read_recipe(recipe_file(tmp_path, world, "alone", **data)), Silent())
    shared = recipe_file(tmp_path, world, "shared", **data)
    shared.write_text(shared.read_text() + f"parallel: {how}\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "peav"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "train", str(shared)], env=environment, check=True, capture_output=True)
    kept = states(tmp_path / "shared" / "checkpoints")
    assert [path.name for path in kept] == [f"step-000000{n}.{'pt' if how == 'ddp' else 'shards'}" for n in (4, 6)]
    remove_state(kept[-1])
    train(read_recipe(shared), Silent(), resume=True)
    alone, together = losses(tmp_path / "alone"), losses(tmp_path / "shared")
    assert len(alone) == len(together) == 6
    for one, two in zip(alone, together, strict=True):
        assert two == pytest.approx(one, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["flip", "remove", "torn sums"])
def test_a_run_in_shards_resumes_from_the_checkpoint_before_a_damaged_one_with_the_same_losses(
    damage: str, world: Path, tmp_path: Path
) -> None:
    """InfoNCE leaves the pairs' biases without a gradient, and so without a state of the optimizer."""
    objective = {"objective": {"pairs": ["a_ac", "a_v"], "loss": "infonce"}}
    recipe = recipe_file(tmp_path, world, "run", **objective)
    recipe.write_text(recipe.read_text() + "parallel: fsdp\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "peav"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "train", str(recipe)], env=environment, check=True, capture_output=True)
    before = losses(tmp_path / "run")
    newest = states(tmp_path / "run" / "checkpoints")[-1]
    if damage == "torn sums":
        (newest / "sums-1.json").write_text("{")
    else:
        shard = max(newest.glob("*.distcp"), key=lambda path: path.stat().st_size)
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content) if damage == "flip" else shard.unlink()
    resumed = subprocess.run(
        [*command, "train", str(recipe), "--resume"], env=environment, check=True, capture_output=True, text=True
    )
    assert "step-0000006.shards: torn or changed" in " ".join(resumed.stderr.split())
    assert losses(tmp_path / "run") == before
