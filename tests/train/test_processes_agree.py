"""Processes that would train different things say so before the first step, and end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from training_runs import recipe_file
from two_processes import HOST, START, said, two

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ALONE_EACH = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_other_clips_or_weights_are_named_in_every_process_and_other_folders_are_the_same(tmp_path: Path) -> None:
    worker = Path(__file__).with_name("agreement_worker.py")
    subprocess.run([*TORCHRUN, str(worker), str(tmp_path / "said")], env=ALONE_EACH, check=True, capture_output=True)
    one, other = (json.loads((tmp_path / f"said-{rank}").read_text()) for rank in (0, 1))
    assert one == other
    same, moved, *differ = one
    assert (same, moved) == ("", "")
    says = ["clips than process 0: 'cat' in the place of 'dog';", "clips than process 0: 'bird' with other times, "]
    for found, begins in zip(differ, [*says, "weights than process 0: "], strict=True):
        assert found.startswith(f"process 1 begins with other {begins}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "named"),
    [("optim.lr=1e-$((3 + RANK))", "optim.lr (0.001 there, 0.0001 here)"), ("seed=$RANK", "seed (0 there, 1 here)")],
)
def test_another_recipe_on_one_process_ends_the_run_before_its_first_step(
    change: str, named: str, world: Path, tmp_path: Path
) -> None:
    recipe = recipe_file(tmp_path, world, "run")
    command = f"exec '{sys.executable}' -m peav train '{recipe}' --set \"{change}\""
    run = subprocess.run(
        [*TORCHRUN, "--no-python", "bash", "-c", command], env=ALONE_EACH, capture_output=True, text=True, timeout=START
    )
    assert run.returncode != 0
    assert f"process 1 has another recipe than process 0: {named}" in " ".join(run.stderr.split())
    assert not (tmp_path / "run" / "log.jsonl").exists()


@pytest.mark.slow
def test_a_recipe_that_one_process_cannot_read_ends_both(world: Path, tmp_path: Path) -> None:
    recipe_file(tmp_path, world, "recipe-0")
    with two(lambda rank: ["-m", "peav", "train", str(tmp_path / f"recipe-{rank}.yaml")]) as (first, second):
        reason = said(second, START)
        assert reason.startswith(f"{tmp_path}/recipe-1.yaml: no such recipe")
        assert said(first) == f"process 1 on {HOST} ended: {reason}"


@pytest.mark.slow
def test_resume_on_one_process_alone_ends_both(world: Path, tmp_path: Path) -> None:
    command = ["-m", "peav", "train", str(recipe_file(tmp_path, world, "run"))]
    with two(lambda rank: command + ["--resume"] * rank) as both:
        for process in both:
            assert "process 1 was started with --resume (in Python: resume=True) and process 0" in said(process, START)


@pytest.mark.slow
def test_an_output_that_is_another_folder_for_each_process_is_refused_before_anything_is_made(
    world: Path, tmp_path: Path
) -> None:
    command = ["-m", "peav", "train", str(recipe_file(tmp_path, world, "run")), "--set", "output=run"]
    nodes = [tmp_path / "node-0", tmp_path / "node-1"]
    for node in nodes:
        node.mkdir()
    with two(lambda rank: command, lambda rank: nodes[rank]) as both:
        for process in both:
            assert "run is another folder for process 1 than for process 0" in said(process, START)
    assert [list(node.iterdir()) for node in nodes] == [[], []]


@pytest.mark.slow
def test_a_clip_that_one_process_alone_cannot_read_ends_both(world: Path, tmp_path: Path) -> None:
    """Each machine has its own copy of the clips and its own cache."""
    nodes = [tmp_path / "node-0", tmp_path / "node-1"]
    for node in nodes:
        shutil.copytree(world, node / "clips", ignore=shutil.ignore_patterns("cache*"))
    next((nodes[1] / "clips" / "media").rglob("*.mp4")).write_bytes(b"damaged")
    recipe = recipe_file(
        tmp_path, world, "run", data={"cache": "cache", "sources": [{"place": "clips/manifest.jsonl"}]}
    )
    with two(lambda rank: ["-m", "peav", "train", str(recipe)], lambda rank: nodes[rank]) as both:
        for process in both:
            assert "process 1 begins with other clips than process 0" in said(process, START)
    assert not (tmp_path / "run" / "log.jsonl").exists()
