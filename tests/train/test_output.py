"""The output folder of a run is that run's alone while it trains, and anybody's afterwards."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from training_runs import Silent, losses, recipe_file
from two_processes import MINUTE, START, start

from peav.errors import TrainingError
from peav.train import read_recipe, train


@pytest.mark.slow
def test_a_second_run_in_the_same_output_is_refused_while_the_first_trains(world: Path, tmp_path: Path) -> None:
    recipe = read_recipe(recipe_file(tmp_path, world, "run", steps=2))
    refused = []

    class Second(Silent):
        def step(self, record) -> None:
            with pytest.raises(TrainingError, match="another run is training there") as error:
                train(recipe, Silent(), resume=True)
            refused.append(error)

    train(recipe, Second())
    assert len(refused) == 2
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["step-0000002.pt"]
    train(recipe, Silent(), resume=True)


@pytest.mark.slow
def test_a_process_that_is_killed_under_torchrun_ends_the_run_which_goes_on_from_its_checkpoint(
    world: Path, tmp_path: Path
) -> None:
    recipe, steps = recipe_file(tmp_path, world, "run", steps=24), 24
    inner = f"echo $BASHPID > {tmp_path}/pid-$RANK; exec '{sys.executable}' -m peav train '{recipe}'"
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python", "bash", "-c", inner]
    run = start("-m", *torchrun)
    try:
        log, until = tmp_path / "run" / "log.jsonl", time.monotonic() + START
        while not (log.exists() and len(losses(tmp_path / "run")) >= 3):
            assert time.monotonic() < until
            assert run.poll() is None
            time.sleep(0.1)
        os.kill(int((tmp_path / "pid-1").read_text()), signal.SIGKILL)
        _, errors = run.communicate(timeout=MINUTE)
    finally:
        run.kill()
        run.communicate()
    # Who was killed is asserted in test_peers.py: torchrun may end the other process before that one has seen it.
    assert run.returncode != 0, errors
    before = losses(tmp_path / "run")
    assert len(before) < steps
    train(read_recipe(recipe), Silent(), resume=True)
    after = losses(tmp_path / "run")
    kept = (len(before) - 1) // 2 * 2  # steps whose checkpoint was there: their losses are not computed again
    assert after[:kept] == before[:kept]
    assert len(after) == steps
