"""Where one process of a run ends, stops or never comes, all end within a minute and say which one it was."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from two_processes import HOST, MINUTE, START, Started, said, start
from two_processes import two as two_processes

WORKER = str(Path(__file__).with_name("peers_worker.py"))


def two(what: str) -> AbstractContextManager[list[Started]]:
    return two_processes(lambda rank: [WORKER, what])


def until_ready(process: Started) -> int:
    """Wait until it has met the others; its process id."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready"):
            return int(line.split()[1])
    pytest.fail(process.communicate()[1])


@pytest.mark.slow
def test_a_process_that_is_killed_is_named_by_the_other() -> None:
    with two("adds") as (first, second):
        until_ready(first)
        second.kill()
        assert said(first).startswith(f"process 1 on {HOST} is gone: ")


@pytest.mark.slow
def test_a_machine_that_stands_still_is_named_by_the_other_and_ends_when_it_goes_on() -> None:
    with two("adds") as (first, second):
        until_ready(first)
        second.send_signal(signal.SIGSTOP)
        line = said(first)
        assert line.startswith(f"process 1 on {HOST} is gone: ")
        assert "--resume (in Python: resume=True)" in line
        second.send_signal(signal.SIGCONT)
        said(second)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["fails first", "fails"])
def test_what_one_process_cannot_use_is_said_by_both(what: str) -> None:
    with two(what) as (first, second):
        assert said(second, START) == "dog.wav: is damaged"
        assert said(first) == f"process 1 on {HOST} ended: dog.wav: is damaged"


@pytest.mark.slow
def test_an_error_that_nobody_foresaw_keeps_its_traceback_and_ends_the_other() -> None:
    with two("breaks") as (first, second):
        assert "KeyError: 'dog'" in second.communicate(timeout=START)[1]
        assert said(first) == f"process 1 on {HOST} ended: KeyError 'dog'"


@pytest.mark.slow
def test_a_process_that_does_not_come_is_named() -> None:
    with two("absent") as (first, second):
        second.kill()
        assert said(first, START).startswith("of 2 processes 1 did not come within 2 s: ")


@pytest.mark.slow
def test_processes_end_when_the_torchrun_that_started_them_is_killed() -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    agent = start(*torchrun, WORKER, "adds")
    workers = [until_ready(agent) for _ in range(2)]
    agent.kill()
    agent.wait()
    wait_until(lambda: not any(map(runs, workers)))
    assert agent.communicate()[1].count("error: the store of the run's processes does not answer") == 2


def runs(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + MINUTE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)
