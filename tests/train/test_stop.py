"""Training that is told to stop: the step in hand is the last one, it is kept, and what is said says how to go on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training_runs import losses, recipe_file

from peav.jobs import Stopped, stop_asked, stoppable
from peav.train.train_checkpoint import states, step_of

STOPS, STEPS = 10, 40
PEAV = [sys.executable, "-m", "peav", "train"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_ten_stops_lose_no_step_and_the_run_is_that_of_one_never_stopped(world: Path, tmp_path: Path) -> None:
    whole, stopped = (recipe_file(tmp_path, world, name, steps=STEPS) for name in ("whole", "stopped"))
    for recipe in (whole, stopped):
        recipe.write_text(recipe.read_text().replace("checkpoint_every: 2", "checkpoint_every: 1000"))
    done = subprocess.run([*PEAV, whole], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"the model: {tmp_path / 'whole' / 'model'}" in done.stdout
    log = tmp_path / "stopped" / "log.jsonl"
    for number in range(STOPS):
        wanted = 3 * (number + 1)
        how = signal.SIGINT if number % 2 else signal.SIGTERM
        with subprocess.Popen([*PEAV, stopped, "--resume"], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as run:
            while not log.exists() or log.read_bytes().count(b"\n") < wanted:
                assert run.poll() is None, run.communicate()[1]
                time.sleep(0.01)
            run.send_signal(how)
            said = run.communicate()[1]
        assert run.returncode == 128 + how
        kept = step_of(states(tmp_path / "stopped" / "checkpoints")[-1])
        assert kept == log.read_bytes().count(b"\n") >= wanted  # every step that was begun
        assert re.search(
            rf"stopped: step {kept} of {STEPS} is kept in .*; run the same command again with --resume", said
        )
    done = subprocess.run([*PEAV, stopped, "--resume"], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")


def test_a_signal_waits_until_it_is_asked_for_and_a_second_one_does_not() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_asked() as asked:
        assert asked() == 0
        signal.raise_signal(signal.SIGTERM)
        assert asked() == signal.SIGTERM
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_stops_within_a_job_says_what_the_job_keeps() -> None:
    def job() -> None:
        with stoppable(lambda: "two of three"):
            with stop_asked() as asked:
                signal.raise_signal(signal.SIGTERM)
            raise Stopped(asked())

    with pytest.raises(Stopped, match="stopped: two of three") as caught:
        job()
    assert caught.value.exit_code == 143
