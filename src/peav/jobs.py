"""Work over many files that may stop at any moment: what is done is kept, what failed is listed, the rest goes on.

A job writes beside its results a list of the files that failed and, where the results do not tell, one of those that
are done: a `Ledger` each. A version of a file is its path, size and modification time, so that a file that changes is
done again. One process at a time works in a place (`peav.utils.lock`).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from peav.utils.atomic import atomic_write, disk_errors, sync
from peav.utils.jsonl import read_lines, to_line

Version = tuple[str, int, int]  # path, size in bytes (-1: absent), modification time in nanoseconds (-1: absent)
SECONDS = 3.0  # between two moments at which what is done is made to last


class Pace:
    """Says when it is time to make what is done last: every three seconds."""

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = SECONDS if seconds is None else seconds
        self.last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time; counts from then on."""
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True


class Ledger:
    """A file of JSON lines, one for each version of a file, that outlives the process at any moment.

    Each line is added in one write, and is on the disk within seconds; a line that a killed process left torn is
    passed over. Several jobs may share the file: each knows the lines that have its own `mark` alone.

    Args:
        path: of the file; it is made with the first line.
        mark: fields that all our lines have, and nobody else's.
        alone: keep no lines but ours, and of each path the newest alone; else lines are only ever added.
        resume: keep our own lines of earlier runs; matters for a file of our own.
    """

    def __init__(self, path: Path, mark: Mapping[str, Any], *, alone: bool = False, resume: bool = True) -> None:
        self.path, self.mark, self.alone = path, dict(mark), alone
        self._pace = Pace()
        found = read_lines(path)
        ours = [line for line in found if all(line.get(key) == value for key, value in mark.items())]
        ours = [line for line in ours if isinstance(line.get("path"), str)] if resume or not alone else []
        self._lines = {_version(line): line for line in ours}
        if alone:
            self._latest = {line["path"]: _version(line) for line in ours}
            self._lines = {version: self._lines[version] for version in self._latest.values()}
            self._rewrite()

    def has(self, version: Version) -> bool:
        """Whether this version of a file has its line."""
        return version in self._lines

    def add(self, version: Version, fields: Mapping[str, Any]) -> None:
        """Write the line of a version, unless it stands there just so."""
        path, size, mtime = version
        line = {"path": path, **fields, "size": size, "mtime": mtime, **self.mark}
        if self._lines.get(version) == line:
            return
        self._lines[version] = line
        if self.alone:
            older = self._latest.get(path)
            self._latest[path] = version
            if older is not None:
                if older != version:
                    del self._lines[older]
                self._rewrite()
                return
        self._append(to_line(line))

    def fail(self, version: Version, error: Exception) -> None:
        """Write that a version failed, and why."""
        self.add(version, {"error": type(error).__name__, "reason": str(error)})

    def close(self) -> None:
        """Have all of it on the disk."""
        if self.path.exists():
            sync(self.path)

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
        with atomic_write(self.path) as temporary:
            temporary.write_bytes(b"".join(map(to_line, self._lines.values())))


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
) -> Plan:
    """The files that are neither done nor known to fail, at most `limit`; without `resume`, all of them."""
    versions = {file: version_of(file) for file in files}
    new = {file: version for file, version in versions.items() if not (resume and done(file, version))}
    todo = {file: version for file, version in new.items() if not (resume and failures.has(version))}
    return Plan(dict(islice(todo.items(), limit)), len(versions) - len(new), len(new) - len(todo))


def version_of(path: Path) -> Version:
    """What tells one version of a file from another."""
    try:
        status = path.stat()
    except OSError:  # decoding will say what is wrong with it
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
        kept: what to say once the block has been left: what is kept, and how to go on.

    Raises:
        Stopped: in the place of KeyboardInterrupt.
    """
    stopping = False

    def stop(signum: int, _frame: object) -> None:
        nonlocal stopping
        # A second signal must not break off the writing of what is kept.
        if not stopping:
            stopping = True
            raise Stopped(signum)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for signum, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            # Not where a signal is ignored either, as shells have it for jobs in the background.
            if signal.getsignal(signum) == usual:
                before[signum] = signal.signal(signum, stop)
    try:
        yield
    except KeyboardInterrupt as error:
        raise Stopped(getattr(error, "signum", signal.SIGINT), kept()) from error
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _version(line: Mapping[str, Any]) -> Version:
    return line["path"], line.get("size", -1), line.get("mtime", -1)
