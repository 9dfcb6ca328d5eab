"""What a recipe's `report_to` names is told what the log has, and is missed before anything is made."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from training_runs import Silent, recipe_file

from peav.errors import RecipeError
from peav.train import read_recipe, train
from peav.train.curves import scalars
from peav.train.trackers import tracked

WORKER = Path(__file__).with_name("kill_worker.py")


def log_of(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def history(path: Path) -> Iterator[dict[str, float]]:
    """The steps in an offline run's file: protobuf records in LevelDB's log format, after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the end of one
            record = Record.FromString(whole)
            whole = b""
            if record.WhichOneof("record_type") == "history":
                items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
                yield {"step": record.history.step.num, **{name: json.loads(text) for name, text in items.items()}}


def killed_and_resumed(recipe: Path) -> None:
    """Killed in step three, after the line in the log and the checkpoint of step two, then run to its end."""
    command = [sys.executable, str(WORKER), str(recipe), "logged", "3"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    killed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    train(read_recipe(recipe), Silent(), resume=True)


@pytest.mark.slow
def test_tensorboard_shows_the_log_after_a_kill_and_a_resume_too(world: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="no tensorboard: pip install 'peav[tensorboard]'",
    )
    recipe = recipe_file(tmp_path, world, "run", steps=5, evaluation={"every": 2})
    recipe.write_text(recipe.read_text() + "report_to: [tensorboard]\n")
    killed_and_resumed(recipe)
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"), {"scalars": 0}).Reload()
    found = {
        tag: [(event.step, np.float32(event.value)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    wanted: dict[str, list] = {}
    for record in log_of(tmp_path / "run"):
        for name, value in scalars(record).items():
            wanted.setdefault(name, []).append((record["step"], np.float32(value)))
    assert found == wanted
    assert [step for step, _ in wanted["losses/a_ac"]] == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_wandb_goes_on_with_one_run_after_a_kill_and_a_resume(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="no wandb: pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    recipe = recipe_file(tmp_path, world, "run", steps=5)
    recipe.write_text(recipe.read_text() + "report_to: [wandb]\n")
    killed_and_resumed(recipe)
    runs = sorted((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert len(runs) == 2
    assert len({folder.name.rpartition("-")[2] for folder in runs}) == 1  # the same id
    assert (tmp_path / "run" / "wandb" / "id").read_text() == runs[0].name.rpartition("-")[2]
    told = [step for folder in runs for step in history(next(folder.glob("*.wandb")))]
    assert [step["step"] for step in told[-3:]] == [3, 4, 5]  # what the second process did
    for step, record in zip(told[-3:], log_of(tmp_path / "run")[-3:], strict=True):
        assert {name: step[name] for name in scalars(record)} == pytest.approx(scalars(record))


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed")
def test_what_is_not_installed_is_named_with_its_command_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_recipe(recipe_file(tmp_path, tmp_path, "run"), {"report_to": "[wandb]"})
    (tmp_path / "elsewhere" / "wandb").mkdir(parents=True)  # as W&B leaves one in the working directory
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    with pytest.raises(RecipeError, match="report_to: wandb is not installed: pip install wandb"):
        train(recipe, Silent())
    assert not (tmp_path / "run").exists()


def test_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"report_to\[0\]: .*'tensorboard' or 'wandb'"):
        read_recipe(recipe_file(tmp_path, tmp_path, "run"), {"report_to": "[mlflow]"})


def test_of_several_processes_the_first_alone_writes(tmp_path: Path) -> None:
    recipe = read_recipe(recipe_file(tmp_path, tmp_path, "run"))
    for is_main in (False, True):
        output = tmp_path / "run"
        output.mkdir(exist_ok=True)
        (output / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
        with tracked(recipe, is_main) as track:
            track({"step": 1, "loss": 2.0})
        assert (output / "curves.html").exists() == is_main


def test_the_page_of_a_run_that_fails_shows_its_last_step(tmp_path: Path) -> None:
    recipe = read_recipe(recipe_file(tmp_path, tmp_path, "run"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n')

    def fails() -> None:
        with tracked(recipe, True) as track:
            track({"step": 1, "loss": 2.0})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert '"x":[1]' in (tmp_path / "run" / "curves.html").read_text()
