"""Processes that would train different things say so before the first step, and end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from training_runs import recipe_file

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
    whats = ["clips", "clips", "weights"]
    assert [said.partition(":")[0] for said in differ] == [
        f"process 1 begins with other {what} than process 0" for what in whats
    ]


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
        [*TORCHRUN, "--no-python", "bash", "-c", command], env=ALONE_EACH, capture_output=True, text=True, timeout=120
    )
    assert run.returncode != 0
    assert f"process 1 has another recipe than process 0: {named}" in " ".join(run.stderr.split())
    assert not (tmp_path / "run" / "log.jsonl").exists()
