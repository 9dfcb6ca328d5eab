"""The page of a run shows its log: every loss as logged, no step twice, small however long the run."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from training_runs import Silent, recipe_file

from peav.model.pairs import PAIRS
from peav.train import read_recipe, train, write_curves
from peav.train.curves import Curves

WORKER = Path(__file__).with_name("kill_worker.py")


def drawn(page: Path) -> dict[str, Any]:
    """What the page's script draws, by name."""
    text = page.read_text(encoding="utf-8")
    return json.loads(text.split('<script type="application/json" id="data">')[1].split("</script>")[0])


def record(step: int, **more: Any) -> dict[str, Any]:
    numbers = {"step": step, "loss": 1 / step, "lr": 0.1, "norm": 1.0, "clips": 8, "losses": {"a_ac": 1 / step}}
    return numbers | {"wait": 0.1, "seconds": 0.5} | more


def write_log(folder: Path, records: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    return folder


@pytest.mark.slow
def test_after_a_kill_and_a_resume_the_page_has_each_step_once_and_every_loss_as_logged(
    world: Path, tmp_path: Path
) -> None:
    recipe = recipe_file(tmp_path, world, "run", steps=5, evaluation={"every": 2})
    command = [sys.executable, str(WORKER), str(recipe), "logged", "3"]  # a step after the checkpoint
    killed = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    page = tmp_path / "run" / "curves.html"
    assert drawn(page)["loss"]["x"] == [1, 2]
    train(read_recipe(recipe), Silent(), resume=True)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    found = drawn(page)
    for name in [*PAIRS, "best_rq"]:
        assert found[f"losses/{name}"]["x"] == [1, 2, 3, 4, 5]
        assert found[f"losses/{name}"]["mean"] == pytest.approx([one["losses"][name] for one in log], rel=1e-4)
    for name in ("loss", "lr", "norm", "seconds", "wait"):
        assert found[name]["mean"] == pytest.approx([one[name] for one in log], rel=1e-4, abs=1e-9)
    assert found["clips_per_second"]["mean"] == pytest.approx([4 / one["seconds"] for one in log], rel=1e-4)
    figures = {name for name in log[1]["eval"] if not name.endswith("chance")}
    assert figures == {name.removeprefix("eval/") for name in found if name.startswith("eval/")}
    for name in figures:
        values = [one["eval"][name] for one in log if "eval" in one]
        best = max(values)
        assert (found[f"eval/{name}"]["x"], found[f"eval/{name}"]["mean"]) == ([2, 4], pytest.approx(values))
        assert found[f"eval/{name}"]["best"] == [2 * values.index(best) + 2, pytest.approx(best, abs=1e-4)]


@pytest.mark.slow
def test_the_page_of_a_long_run_is_small_and_shows_its_spikes(tmp_path: Path) -> None:
    steps, losses = 250_000, dict.fromkeys([*PAIRS, *(f"own_{number}" for number in range(5))], 1.2345678)
    with open(write_log(tmp_path / "long", []) / "log.jsonl", "w") as log:
        for step in range(1, steps + 1):
            spike = {"loss": 99.0} if step == 123_456 else {}
            figures = {"eval": {"t2a": math.sin(step)}} if step % 100 == 0 else {}
            log.write(json.dumps(record(step, losses=losses, **spike, **figures)) + "\n")
    page = write_curves(tmp_path / "long")
    assert page.stat().st_size < 1_000_000
    found = drawn(page)
    assert found["loss"]["x"][-1] == steps
    assert max(found["loss"]["high"]) == 99.0
    assert max(found["loss"]["mean"]) < 99.0
    assert found["eval/t2a"]["best"][1] == pytest.approx(
        max(math.sin(step) for step in range(100, steps + 1, 100)), abs=1e-4
    )
    assert all(len(some) <= 500 for panel in found.values() for some in (panel["x"], panel["mean"]))


def test_a_line_that_is_not_whole_is_left_for_later(tmp_path: Path) -> None:
    folder = write_log(tmp_path, [record(1), record(2)])
    with open(folder / "log.jsonl", "a") as log:
        log.write('{"step": 3, "lo')
    assert drawn(write_curves(folder))["loss"]["x"] == [1, 2]


def test_a_page_drawn_again_reads_the_new_lines_alone(tmp_path: Path) -> None:
    folder = write_log(tmp_path, [record(1), record(2)])
    curves, log = Curves(folder), folder / "log.jsonl"
    curves.write()
    log.write_text("x" * log.stat().st_size + json.dumps(record(3)) + "\n")
    assert drawn(curves.write())["loss"]["x"] == [1, 2, 3]


def test_figures_have_their_best_and_their_own_chance(tmp_path: Path) -> None:
    figures = [{"t2a": value, "chance": 0.1, "auroc": 0.5, "auroc_chance": 0.5} for value in (0.1, 0.4, 0.3)]
    folder = write_log(tmp_path, [record(step, eval=one) for step, one in enumerate(figures, 1)])
    found = drawn(write_curves(folder))
    assert (found["eval/t2a"]["best"], found["eval/t2a"]["chance"]) == ([2, 0.4], 0.1)
    assert found["eval/auroc"]["chance"] == 0.5
    assert (
        'aria-label="t2a: 0.1 at step 1 and 0.3 at step 3, best 0.4 at step 2"' in (folder / "curves.html").read_text()
    )
    assert not [name for name in found if "chance" in name]


def test_values_that_are_not_finite_are_gaps(tmp_path: Path) -> None:
    folder = write_log(tmp_path, [record(1, eval={"t2a": math.nan}), record(2, eval={"t2a": 0.5})])
    assert drawn(write_curves(folder))["eval/t2a"]["x"] == [2]


def test_the_log_of_an_older_version_lacks_no_more_than_its_speed(tmp_path: Path) -> None:
    old = record(1)
    del old["clips"]
    found = drawn(write_curves(write_log(tmp_path, [old])))
    assert {"loss", "losses/a_ac", "seconds"} <= set(found)
    assert "clips_per_second" not in found


def test_names_cannot_end_the_script_or_write_into_the_page(tmp_path: Path) -> None:
    name = "</script><b>"
    folder = write_log(tmp_path / "<i>run", [record(1, losses={name: 1.0})])
    page = write_curves(folder)
    assert f"losses/{name}" in drawn(page)
    assert name not in page.read_text()
    assert "<i>" not in page.read_text()


def test_a_page_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    text = write_curves(write_log(tmp_path, [record(1)])).read_text()
    assert not [mark for mark in ("http:", "https:", "src=", "@import", "url(") if mark in text]


def test_a_folder_without_a_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"log\.jsonl"):
        write_curves(tmp_path)
