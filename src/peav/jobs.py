"""Work over many files that may stop at any moment: what is done is kept, what failed is listed, the rest goes on.

A job writes beside its results a list of the files that failed and, where the results do not tell, one of those that
are done: a `Ledger` each. A version of a file is its path, size and modification time, so that a file that changes is
done again. One process at a time works in a place (`peav.utils.lock`). Jobs over clips, which are known by more than a
file, write the list of those that failed as a whole: `write_failures`. Every line of either is a `failure`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from peav.utils.atomic import disk_errors, on_disk, sync
from peav.utils.jsonl import read_lines, to_line
from peav.utils.storage import remove, write_all

GOES_ON = "run the same command again, it goes on"
logger = logging.getLogger(__name__)
Item = TypeVar("Item")
Made = TypeVar("Made")
Version = tuple[str, int, int]  # path, size in bytes (-1: absent), modification time in nanoseconds (-1: absent)
SECONDS = 3.0  # between two moments at which what is done is made to last
CHUNK = 4  # items that a process of `make_all` is given at a time


class Pace:
    """Says when it is time to make what is done last: every three seconds."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time; counts from then on."""
        now = time.monotonic()
        if now - self.last < SECONDS:
            return False
        self.last = now
        return True


def failure(path: object, error: Exception, **more: Any) -> dict[str, Any]:
    """A line of `failures.jsonl`: a file, its error's type, what the error says, and what else tells the file."""
    return {"path": str(path), "error": type(error).__name__, "reason": str(error), **more}


def write_failures(path: str | Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write all lines of a `failures.jsonl`, on disk or in object storage; without any, there is no file."""
    if data := b"".join(map(to_line, lines)):
        write_all(path, data)
    else:
        remove(path)


class Ledger:
    """A file of JSON lines, one for each version of a file, that outlives the process at any moment.

    Each line is added in one write, and is on the disk within seconds; a line that a killed process left torn is
    passed over. Several jobs may share the file: each knows the lines that have its own `mark` alone.

    Args:
        path: of the file; it is made with the first line.
        mark: fields that all our lines have, and nobody else's.
        alone: keep no lines but ours, and of each path the newest alone; else lines are only ever added.
        resume: keep our own lines of earlier runs; matters for a file of our own.

    Attributes:
        failed: how many this run has added with `fail`, by the type of their error.
    """

    def __init__(self, path: Path, mark: Mapping[str, Any], *, alone: bool = False, resume: bool = True) -> None:
        self.path, self.mark, self.alone = on_disk(path), dict(mark), alone
        self.failed: Counter[str] = Counter()
        self._pace = Pace()
        found = read_lines(path)
        ours = [line for line in found if all(line.get(key) == value for key, value in mark.items())]
        ours = [line for line in ours if isinstance(line.get("path"), str)] if resume or not alone else []
        self._lines = {self._key(_version(line)): line for line in ours}
        if alone:
            self._rewrite()

    def has(self, version: Version) -> bool:
        """Whether this version of a file has its line."""
        line = self._lines.get(self._key(version))
        return line is not None and _version(line) == version

    def add(self, version: Version, fields: Mapping[str, Any]) -> None:
        """Write the line of a version, unless it stands there just so."""
        path, size, mtime = version
        line = {"path": path, **fields, "size": size, "mtime": mtime, **self.mark}
        key = self._key(version)
        if self._lines.get(key) == line:
            return
        older = self._lines.pop(key, None)
        self._lines[key] = line
        if self.alone and older is not None:
            self._rewrite()
        else:
            self._append(to_line(line))

    def fail(self, version: Version, error: Exception) -> None:
        """Write that a version failed, and why."""
        logger.info("failed: %s", error)
        self.failed[type(error).__name__] += 1
        self.add(version, failure(version[0], error))

    def close(self) -> None:
        """Have all of it on the disk."""
        if self.path.exists():
            sync(self.path)

    def _key(self, version: Version) -> Version | str:
        return version[0] if self.alone else version

    def _append(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Appending and unbuffered: one write a line, at the file's end whoever else writes to it.
        with disk_errors(self.path), self.path.open("ab+", buffering=0) as file:
            # A killed process may have left half a line: ours then begins on a line of its own.
            if file.tell() and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
                data = b"\n" + data
            file.write(data)
            if self._pace.due():
                os.fsync(file.fileno())

    def _rewrite(self) -> None:
        write_all(self.path, b"".join(map(to_line, self._lines.values())))


def claim(note: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder holds, as its note in JSON says; without one it is noted, and holds what is `wanted`."""
    if not note.exists():
        write_all(note, json.dumps(wanted, indent=1) + "\n")
    held: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    return held


def make_all(
    make: Callable[[Item], Made],
    items: Sequence[Item],
    kept: str,
    progress: Callable[[int], object] = lambda done: None,
    jobs: int = 1,
) -> list[Made]:
    """What `make` makes of each item, in order.

    Args:
        make: with several `jobs`, something that can be pickled.
        kept: what to say of the number of items that are made, when the work is stopped.
        progress: told how many are made.
        jobs: processes that make them; 1: this one.

    Raises:
        Stopped: Ctrl-C or SIGTERM.
    """
    made: list[Made] = []
    with stoppable(lambda: f"{len(made)} of {len(items)} {kept}"), ExitStack() as stack:
        results: Iterable[Made] = map(make, items)
        if jobs > 1:
            # Spawned: a forked process would have none of its parent's threads. Deaf to Ctrl-C, which reaches every
            # process of a terminal: they finish what they have in hand, and this one ends them.
            pool = ProcessPoolExecutor(jobs, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))
            stack.callback(pool.shutdown, cancel_futures=True)
            results = pool.map(make, items, chunksize=CHUNK)
        for one in results:
            made.append(one)
            progress(len(made))
    return made


@dataclass(frozen=True)
class Plan:
    """What a job has to do: versions by file, and how many files are left out since they are done or failed before.

    Versions are taken before decoding: a file that changes meanwhile is done again by the next run.
    """

    todo: dict[Path, Version]
    skipped: int
    failed_before: int


def plan(
    files: Sequence[Path],
    done: Callable[[Path, Version], bool],
    failures: Ledger,
    *,
    limit: int | None = None,
    resume: bool = True,
    retry_failed: bool = False,
) -> Plan:
    """The files that are neither done nor, but for `retry_failed`, known to fail, at most `limit`; all of them without
    `resume`.
    """
    versions = {file: version_of(file) for file in files}
    new = {file: version for file, version in versions.items() if not (resume and done(file, version))}
    todo = {
        file: version for file, version in new.items() if not (resume and not retry_failed and failures.has(version))
    }
    return Plan(dict(islice(todo.items(), limit)), len(versions) - len(new), len(new) - len(todo))


def version_of(path: Path) -> Version:
    """What tells one version of a file from another."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # decoding will say what is wrong with it
        return str(path), -1, -1
    return str(path), status.st_size, status.st_mtime_ns


# A KeyboardInterrupt, so that no `except Exception` on the way takes it for the failure of a file.
class Stopped(KeyboardInterrupt):
    """A job was told to stop, by Ctrl-C or SIGTERM; the message says what is kept and how to go on."""

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """As shells count: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signum


@contextmanager
def stoppable(kept: Callable[[], str]) -> Iterator[None]:
    """Within the block, SIGTERM stops a job as Ctrl-C does: by an exception, so that what is done is kept.

    Signals after the first one change nothing. Outside of the main thread, and where a program has its own handlers,
    signals are left as they are.

    Args:
        kept: what to say after "stopped: ", once the block has been left: what is kept, and how to go on.

    Raises:
        Stopped: in the place of KeyboardInterrupt.
    """
    came = 0

    def stop(signum: int, _frame: object) -> None:
        nonlocal came
        # A second signal must not break off the writing of what is kept.
        if not came:
            came = signum
            raise Stopped(signum)

    try:
        with _on_signals(stop):
            yield
    except KeyboardInterrupt as error:
        # Not as the error says: some libraries (Ray) give a KeyboardInterrupt of their own for it.
        raise Stopped(came or getattr(error, "signum", signal.SIGINT), f"stopped: {kept()}") from error


@contextmanager
def stop_asked() -> Iterator[Callable[[], int]]:
    """Within the block, Ctrl-C and SIGTERM wait until they are asked for: gives a function that returns the signal that
    came, or 0. A second one raises `Stopped` at once.
    """
    came = 0

    def note(signum: int, _frame: object) -> None:
        nonlocal came
        if came:
            raise Stopped(signum)
        came = signum

    with _on_signals(note):
        yield lambda: came


@contextmanager
def _on_signals(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Let `handler` have Ctrl-C and SIGTERM, where nobody but this module has them."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for signum, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            # Not where a signal is ignored either, as shells have it for jobs in the background.
            there = signal.getsignal(signum)
            if there == usual or getattr(there, "__module__", None) == __name__:
                before[signum] = signal.signal(signum, handler)
    try:
        yield
    finally:
        for number, there in before.items():
            signal.signal(number, there)


def _version(line: Mapping[str, Any]) -> Version:
    return line["path"], line.get("size", -1), line.get("mtime", -1)
