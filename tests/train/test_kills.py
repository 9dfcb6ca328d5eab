"""A run that is killed again and again, anywhere, is the run that was never killed: the same clips, the same losses.

PEAV_KILLS=200 pytest tests/train/test_kills.py      for more kills than the ten of every day
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kill_worker import FULL, POINTS
from training_runs import losses, recipe_file

from peav.data.manifest import read_manifest

KILLS = int(os.environ.get("PEAV_KILLS", "10"))
STEPS = 3 * KILLS
WORKER = Path(__file__).with_name("kill_worker.py")


def run(recipe: Path, point: str, count: int) -> int:
    command = [sys.executable, str(WORKER), str(recipe), point, str(count)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def ids(output: Path) -> dict[int, str]:
    """Clips by step; a step that was done twice must have had the same ones."""
    found: dict[int, str] = {}
    for line in (output / "ids.txt").read_text().splitlines():
        step, names = line.split(" ", 1)
        assert found.setdefault(int(step), names) == names, f"step {step} had other clips the second time"
    return found


@pytest.mark.slow
def test_a_run_killed_anywhere_has_the_losses_and_clips_of_one_never_killed(world: Path, tmp_path: Path) -> None:
    """Checkpoints every two steps; kills within steps, after the log line, and around every stage of a checkpoint."""
    whole, killed = (recipe_file(tmp_path, world, name, steps=STEPS) for name in ("whole", "killed"))
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    assert run(whole, "never", 1) == 0
    rng, kills = random.Random(0), 0
    for kill in range(KILLS):
        point = POINTS[kill % (len(POINTS) - 1)]
        code = run(killed, point, rng.randint(2, 5) if point in ("step", "logged") else rng.randint(1, 2))
        kills += code == -signal.SIGKILL
    run(killed, "never", 1)
    assert kills == KILLS
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert ids(tmp_path / "killed") == ids(tmp_path / "whole")
    assert len(ids(tmp_path / "whole")) == STEPS


@pytest.mark.slow
def test_three_resumes_inside_an_epoch_give_each_clip_once_in_the_same_order(world: Path, tmp_path: Path) -> None:
    rows = [row for row in read_manifest(world / "manifest.jsonl") if row.split == "train"]
    epoch = len(rows) // 2
    assert epoch >= 8
    changes = {"steps": epoch, "optim": {"batch_size": 2}}
    whole, killed = (recipe_file(tmp_path, world, name, **changes) for name in ("whole", "killed"))
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    assert run(whole, "never", 1) == 0
    for _ in range(3):
        assert run(killed, "step", 4) == -signal.SIGKILL  # after three steps and one checkpoint
    assert run(killed, "never", 1) == 0
    assert ids(tmp_path / "killed") == ids(tmp_path / "whole")
    clips = " ".join(ids(tmp_path / "killed").values()).split()
    assert len(clips) == len(set(clips)) == 2 * epoch
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_checkpoint_whole(world: Path, tmp_path: Path) -> None:
    whole, filled = (recipe_file(tmp_path, world, name) for name in ("whole", "filled"))
    for name in ("whole", "filled"):
        (tmp_path / name).mkdir()
    assert run(whole, "never", 1) == 0
    command = [sys.executable, str(WORKER), str(filled), FULL, "2"]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert "OSError" in done.stderr
    assert [path.name for path in (tmp_path / "filled" / "checkpoints").iterdir()] == ["step-0000002.pt"]
    assert run(filled, "never", 1) == 0
    assert losses(tmp_path / "filled") == losses(tmp_path / "whole")


@pytest.mark.slow
def test_a_flipped_bit_in_the_newest_checkpoint_is_named_and_the_one_before_is_used(
    world: Path, tmp_path: Path
) -> None:
    recipe = recipe_file(tmp_path, world, "flipped", steps=5)
    (tmp_path / "flipped").mkdir()
    assert run(recipe, "never", 1) == 0
    before = losses(tmp_path / "flipped")
    newest = sorted((tmp_path / "flipped" / "checkpoints").glob("step-*.pt"))[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    command = [sys.executable, "-m", "peav", "train", str(recipe), "--resume"]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{newest.name}: torn or changed" in done.stderr.replace("\n", "")
    assert losses(tmp_path / "flipped")[:4] == before[:4]
    assert losses(tmp_path / "flipped") == before
