"""How fast a run is said to be."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from training_runs import Silent, recipe_file

from peav.distributed import ALONE
from peav.train import plan, read_recipe, train
from peav.train.meter import LEAST_STEPS, Meter, matmul_peak, meter, most_memory

CPU = torch.device("cpu")


def test_the_share_of_the_peak_is_that_of_the_operations_that_a_step_could_have_had() -> None:
    record = Meter(CPU, flops=3e9, peak=2e9)({"seconds": 6.0})
    assert record["peak_share"] == 0.25
    assert record["memory"] == pytest.approx(most_memory(CPU) / 2**30, abs=0.01)
    assert "peak_share" not in Meter(CPU)({"seconds": 6.0})


def test_a_matrix_product_is_no_faster_than_the_peak() -> None:
    peak = matmul_peak(CPU, torch.float32, seconds=0.1)
    a = torch.randn(512, 512)
    began = time.perf_counter()
    for _ in range(4):
        a @ a
    # Beside other work either may be slowed, a thousand times it is not.
    assert 4 * 2 * 512**3 / (time.perf_counter() - began) < 1000 * peak
    assert peak > 1e6


@pytest.mark.slow
def test_a_long_run_is_measured_by_its_plan_and_a_short_one_is_not_slowed_for_it(world: Path, tmp_path: Path) -> None:
    short = read_recipe(recipe_file(tmp_path, world, "short"))
    assert meter(short, CPU, ALONE) == Meter(CPU)
    long = read_recipe(recipe_file(tmp_path, world, "long"), {"optim.steps": str(LEAST_STEPS)})
    made = meter(long, CPU, ALONE)
    assert made.flops == plan(long).step_flops
    assert made.peak is not None
    train(short, Silent())
    for line in (tmp_path / "short" / "log.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert record["memory"] > 0
        assert "peak_share" not in record
        assert {"losses", "clips", "seconds", "wait"} <= record.keys()
