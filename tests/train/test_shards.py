"""Checkpoints in shards are whole or absent, and any number of processes goes on from them to the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from peav.train.train_checkpoint import states

WORKER = Path(__file__).with_name("shards_worker.py")


def run(processes: int, *arguments: object) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = (
        [*torchrun, str(WORKER), *map(str, arguments)]
        if processes > 1
        else [sys.executable, str(WORKER), *map(str, arguments)]
    )
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("whole")
    run(1, folder / "c", 6, folder / "out.pt")
    return torch.load(folder / "out.pt")


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 4), (2, 1), (1, 2)])
def test_another_number_of_processes_goes_on_to_the_same_bits(
    before: int, after: int, whole: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """Also of a part that begins to learn after the resume, and of one that never does."""
    run(before, tmp_path / "c", 2, tmp_path / "unused.pt")
    run(after, tmp_path / "c", 6, tmp_path / "out.pt")
    found = torch.load(tmp_path / "out.pt")
    assert found.keys() == whole.keys()
    assert not any(name.startswith("never") and name.count(".") > 1 for name in found)  # no state of the optimizer
    for name, value in whole.items():
        assert torch.equal(found[name], value), name


@pytest.mark.slow
def test_a_full_disk_of_one_process_stops_all_and_leaves_the_last_checkpoint_whole(
    whole: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    run(2, tmp_path / "c", 4, tmp_path / "out.pt", "full")
    for rank in (0, 1):
        assert "cannot be written" in (tmp_path / f"out.{rank}").read_text()
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["step-0000001.shards"]
    run(2, tmp_path / "c", 6, tmp_path / "out.pt")
    assert all(torch.equal(value, whole[name]) for name, value in torch.load(tmp_path / "out.pt").items())


@pytest.mark.slow
def test_a_checkpoint_that_lacks_a_process_s_part_gets_no_name(tmp_path: Path) -> None:
    """As on machines of which each has an output of its own."""
    run(2, tmp_path, 1, tmp_path / "out.pt", "apart")
    for rank in (0, 1):
        assert "lacks a process's part" in (tmp_path / f"out.{rank}").read_text()
        assert states(tmp_path / str(rank)) == []


@pytest.mark.slow
def test_what_a_killed_process_left_is_no_checkpoint_and_is_removed(tmp_path: Path) -> None:
    for name in (".step-0000009.shards.tmp", ".step-0000008.shards.gone"):
        (tmp_path / "c" / name).mkdir(parents=True)
        (tmp_path / "c" / name / "__0_0.distcp").write_bytes(b"half")
    assert states(tmp_path / "c") == []
    run(2, tmp_path / "c", 3, tmp_path / "out.pt")
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["step-0000002.shards", "step-0000003.shards"]
