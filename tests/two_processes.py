"""Two processes of one run, each started for itself, as a cluster's own launcher does, and what they say in the end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

MINUTE = 60
START = 300  # seconds that a process may take to import torch where others are busy
HOST = socket.gethostname()
Started = subprocess.Popen[str]


def start(*command: str, folder: Path | None = None, **environment: str) -> Started:
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "1000"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def two(
    command: Callable[[int], list[str]], folder: Callable[[int], Path | None] = lambda rank: None
) -> Iterator[list[Started]]:
    """Both run in a `folder` of their own, where one is given."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    started = [start(*command(rank), folder=folder(rank), RANK=str(rank), **place) for rank in (0, 1)]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def said(process: Started, within: float = MINUTE) -> str:
    """The one error of a process that ends within so many seconds."""
    _, errors = process.communicate(timeout=within)
    assert process.returncode in (1, 2), errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    return line.removeprefix("error: ")
