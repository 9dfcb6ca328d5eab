"""Whole runs that decode while they train: the same losses whoever decodes and however often they are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from decoding_worker import write_clips
from training_runs import Silent, losses, recipe_file

from peav.errors import RecipeError
from peav.train import read_recipe, train

pytestmark = pytest.mark.slow
KILLER = Path(__file__).with_name("kill_worker.py")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips, one of which is no media file."""
    folder = write_clips(tmp_path_factory.mktemp("clips"), 12)
    (folder / "clip-07.mkv").write_bytes(b"nothing" * 1000)
    return folder


def recipe(tmp_path: Path, folder: Path, name: str, workers: int | None) -> Path:
    decode = {} if workers is None else {"decode": {"workers": workers}}
    return recipe_file(tmp_path, folder, name, data={"max_seconds": 1.0, **decode})


def failed(output: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (output / "failures.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run in one process, without workers, that nobody kills."""
    tmp_path = tmp_path_factory.mktemp("whole")
    train(read_recipe(recipe(tmp_path, folder, "whole", 0)), Silent())
    assert failed(tmp_path / "whole") == ["clip-07"]
    return tmp_path / "whole"


def test_losses_are_the_same_whatever_the_number_of_workers(folder: Path, whole: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        train(read_recipe(recipe(tmp_path, folder, f"by-{workers}", workers)), Silent())
        assert losses(tmp_path / f"by-{workers}") == losses(whole)
        assert failed(tmp_path / f"by-{workers}") == ["clip-07"]
    assert not list(folder.glob("cache/*"))  # no feature is stored


def test_a_run_killed_within_steps_goes_on_with_the_same_losses_and_other_workers(
    folder: Path, whole: Path, tmp_path: Path
) -> None:
    for workers, point, count in ((2, "step", 2), (1, "logged", 2), (0, "step", 3), (1, "never", 1)):
        path = recipe(tmp_path, folder, "killed", workers)
        (tmp_path / "killed").mkdir(exist_ok=True)
        command = [sys.executable, str(KILLER), str(path), point, str(count)]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == (0 if point == "never" else -signal.SIGKILL), done.stderr
    assert losses(tmp_path / "killed") == losses(whole)
    assert failed(tmp_path / "killed") == ["clip-07"]


def test_two_processes_have_the_losses_of_one(folder: Path, whole: Path, tmp_path: Path) -> None:
    """To rounding: the codec meets other paddings."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "peav"]
    path = recipe(tmp_path, folder, "shared", 1)
    done = subprocess.run([*command, "train", str(path)], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for one, two in zip(losses(whole), losses(tmp_path / "shared"), strict=True):
        assert two == pytest.approx(one, rel=1e-3)
    assert failed(tmp_path / "shared") == ["clip-07"]


def test_what_needs_stored_features_is_refused_before_anything_is_decoded(folder: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, folder, "refused", 0)
    changes = (
        ({"initializers": "[{class: pretrain_frames, steps: 1}]"}, "some initializers need features"),
        (
            {"data.sources": f"[{{place: {folder}/manifest.jsonl, transforms: [{{class: word_swap, share: 0.5}}]}}]"},
            "leave out data.decode",
        ),
        ({"objective.auxiliary": "{words: {weight: 1}}"}, "a loss with targets needs stored latents"),
    )
    for change, message in changes:
        with pytest.raises(RecipeError, match=message):
            train(read_recipe(path, change), Silent())


def test_the_phases_in_small_run_from_nothing_one_after_the_other(tmp_path: Path) -> None:
    """`peav train mini/phase1`, `mini/phase2`, `mini/frames` in an empty folder; a phase asks for the one before it."""

    def run(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "peav", "train", f"mini/{name}"]
        return subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)

    pytest.importorskip("espeakng_loader", reason="the world's speakers need the extra `world`")
    early = run("phase2")
    assert early.returncode != 0
    assert "runs/mini/phase1/model is not there yet; `peav train mini/phase1` makes it" in " ".join(
        early.stderr.split()
    )
    for name in ("phase1", "phase2", "frames"):
        done = run(name)
        assert done.returncode == 0, done.stderr
        records = [json.loads(line) for line in (tmp_path / f"runs/mini/{name}/log.jsonl").read_text().splitlines()]
        assert all("queue" in record for record in records)
    assert {path.name for path in (tmp_path / "runs/mini").iterdir()} == {"phase1", "phase2", "frames", "cache"}
    assert {path.name for path in (tmp_path / "runs/mini/cache").iterdir()} == {"webdataset"}  # and no features
