"""Tasks in worker processes that may crash, hang or eat memory: each costs its own task and nothing else.

Workers are new Python processes (nothing is forked, the user's main module is not imported), each watched by a thread
of this process that starts, kills and replaces it. The task in hand is always known. Processor time and memory are read
from /proc: limits set in the kernel (RLIMIT_AS, RLIMIT_DATA) would count what FFmpeg's and torch's threads merely
reserve, and make a decoder report damage where there is only too little memory.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Condition, Thread
from threading import enumerate as enumerate_threads
from typing import Any, Literal
from weakref import WeakSet

from peav.utils.environment import from_environment

LOOK = 0.1  # seconds between two looks at a worker
THREAD = "peav worker"
PATIENCE = 10.0  # seconds in which a thread ends that was told to
START = 120.0  # seconds that a worker may take to start
TASKS_AHEAD = 256
BYTES_AHEAD = 128 << 20
# Not multiprocessing's own spawn, which would import the user's main module in each worker.
_BOOT = (
    "import sys; from multiprocessing.connection import Connection; c = Connection(int(sys.argv[1]));"
    "sys.path[:] = c.recv(); from peav.utils.worker import serve; serve(c, int(sys.argv[2]))"
)


@dataclass(frozen=True)
class TaskLimits:
    """What a task may take between two of its items. Each field can be set by an environment variable.

    Attributes:
        cpu_seconds: of processor time, so that a busy machine fails no good file (PEAV_DECODE_CPU_SECONDS).
        idle_seconds: of the clock, less than 1/300 of which the processor worked: a hang (PEAV_DECODE_IDLE_SECONDS).
        memory: bytes above the worker's size after its imports (PEAV_DECODE_MEMORY).
    """

    cpu_seconds: float = 360.0
    idle_seconds: float = 300.0
    memory: int = 4 << 30

    @classmethod
    def from_environment(cls) -> TaskLimits:
        """The defaults, or what the environment says. Raises ValueError for a variable that is no positive number."""
        return from_environment(cls, "PEAV_DECODE")


class WorkerFailure(Exception):
    """A task took its worker with it. `kind` is crash, time or memory; the message says what happened."""

    def __init__(self, kind: Literal["crash", "time", "memory"], what: str) -> None:
        super().__init__(what)
        self.kind = kind


@dataclass(frozen=True)
class Task:
    """Calls a module's `function` (or what `module:function` names), which returns an iterator; `label` says what the
    task is about.

    With `here` it is called in a thread of this process: for arguments that another process cannot have.
    """

    label: str
    function: str | Callable[..., Iterable[Any]]
    arguments: tuple[Any, ...] = ()
    here: bool = False


@dataclass(frozen=True)
class End:
    """Stands after a task's last item; `error` is None, what the function raised, or a `WorkerFailure`."""

    label: str
    error: Exception | None = None


_ALIVE: WeakSet[Workers] = WeakSet()


@atexit.register
def _end_all() -> None:
    """Wait for threads of workers that nobody closed, or that have only just been told: one that lets go of a tensor
    while the interpreter ends would abort the process.
    """
    for workers in list(_ALIVE):
        workers.close()
    # Not those of _ALIVE: a thread may be about to free its workers, and a model with them.
    for thread in enumerate_threads():
        if thread.name == THREAD:
            thread.join(PATIENCE)


class Workers:
    """Iterates over `(index, item)` of all tasks in their order, each task's items followed by its `End`.

    Several tasks are worked on ahead of the one whose items are being taken, up to some 128 MB of items. Warnings are
    given again where the items are taken. Close it, or use it in a `with` block: this ends the workers at once.

    Args:
        tasks: may be any iterable, and is read as it is needed.
        count: of workers; None: one for each processor, at most four.
        size: bytes of an item.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        count: int | None = None,
        limits: TaskLimits | None = None,
        size: Callable[[Any], int] = lambda item: 0,
    ) -> None:
        self.limits = limits or TaskLimits.from_environment()
        self.size = size
        self._tasks = enumerate(tasks)
        self._count = count or min(4, len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
        self._changed = Condition()
        self._ready: dict[int, deque[Any]] = {}  # by task: items, warnings and its End
        self._head = 0  # the task whose items are being taken
        self._held = 0  # bytes
        self._total: int | None = None  # known once the tasks have come to their end
        self._broken: BaseException | None = None  # our own mistake: ends everything
        self._closed = False
        self._threads: list[Thread] = []
        _ALIVE.add(self)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def ready(self) -> int:
        """How many items wait to be taken."""
        with self._changed:
            return sum(not isinstance(item, End | Warning) for items in self._ready.values() for item in items)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        # A thread for each worker, which starts it and outlives it: Linux kills a worker when the thread that started
        # it ends (`peav.utils.worker`).
        self._threads = [Thread(target=self._keep, name=THREAD, daemon=True) for _ in range(self._count)]
        for thread in self._threads:
            thread.start()
        try:
            while (taken := self._take()) is not None:
                index, item = taken
                if isinstance(item, Warning):
                    warnings.warn(item, stacklevel=2)
                else:
                    yield index, item
        finally:
            self.close()
        for thread in self._threads:
            thread.join()

    def _take(self) -> tuple[int, Any] | None:
        """The next item of the task at the head."""
        with self._changed:
            while not self._ready.get(self._head):
                if self._broken is not None:
                    raise self._broken
                if self._closed or self._head == self._total:
                    return None
                self._changed.wait()
            index, item = self._head, self._ready[self._head].popleft()
            if isinstance(item, End):
                del self._ready[index]
                self._head += 1
            else:
                self._held -= self.size(item) if not isinstance(item, Warning) else 0
            self._changed.notify_all()
            return index, item

    # The rest runs in the threads, one for each worker.

    def _keep(self) -> None:
        """Start a worker, hand it one task after the other, replace it where it dies."""
        worker: _Worker | None = None
        try:
            while (next_one := self._next()) is not None:
                index, task = next_one
                if task.here:
                    self._put(index, self._run_here(index, task))
                    continue
                if worker is not None and not worker.fresh(self.limits):
                    worker.kill()
                    worker = None
                worker = worker or _Worker(lambda: self._closed)
                try:
                    error = worker.run(task, self.limits, partial(self._put, index))
                except WorkerFailure as failure:
                    error = failure
                self._put(index, End(task.label, error))
        except _Closed:
            pass
        except BaseException as mistake:
            with self._changed:
                self._broken = mistake
                self._changed.notify_all()
        finally:
            if worker is not None:
                worker.kill()

    def _next(self) -> tuple[int, Task] | None:
        with self._changed:
            # Bytes alone would not bound tasks that give few items or none.
            while len(self._ready) >= TASKS_AHEAD and not self._closed:
                self._changed.wait()
            if self._closed or self._total is not None:
                return None
            try:
                index, task = next(self._tasks)
            except StopIteration:
                self._total = self._head + len(self._ready)
                self._changed.notify_all()
                return None
            self._ready[index] = deque()
            return index, task

    def _run_here(self, index: int, task: Task) -> End:
        assert callable(task.function)
        try:
            for item in task.function(*task.arguments):
                self._put(index, item)
        except Exception as error:
            return End(task.label, error)
        return End(task.label)

    def _put(self, index: int, item: Any, worker: _Worker | None = None) -> None:
        """Add to a task's items; waits while too much is held, but never for the task that is being taken from."""
        size = 0 if isinstance(item, End | Warning) else self.size(item)
        with self._changed:
            while not self._closed and size and self._held + size > BYTES_AHEAD:
                if index == self._head and not self._ready[index]:
                    break
                self._changed.wait(LOOK)
                if worker is not None:
                    # While its thread waits here, nobody else looks at the worker.
                    worker.check_memory(self.limits)
            if self._closed:
                raise _Closed
            self._held += size
            self._ready[index].append(item)
            self._changed.notify_all()


class _Closed(Exception):
    """Nobody wants the rest."""


class _Worker:
    """One process, as the thread that keeps it sees it."""

    def __init__(self, closed: Callable[[], bool]) -> None:
        self.closed = closed
        ours, theirs = socket.socketpair()
        # Closes our copy of the worker's end: else the connection would outlive the worker, and its death go unseen.
        with theirs:
            command = [sys.executable, "-c", _BOOT, str(theirs.fileno()), str(os.getpid())]
            self.process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=os.environ | {"OMP_NUM_THREADS": "1"},  # there are several workers
            )
        self.connection = Connection(ours.detach())
        try:
            self.connection.send(sys.path)
            if not self.connection.poll(START) or self.connection.recv()[0] != "ready":
                raise EOFError
        except (EOFError, OSError) as error:
            self.kill()
            raise RuntimeError(f"a worker process did not start (exit code {self.process.returncode})") from error
        self.size = self._usage()[1]

    def fresh(self, limits: TaskLimits) -> bool:
        """Whether it is there, and has kept little memory of its tasks so far."""
        return self.process.poll() is None and self._usage()[1] - self.size < limits.memory / 2

    def run(self, task: Task, limits: TaskLimits, put: Callable[[Any, _Worker], None]) -> Exception | None:
        """Carry a task out; returns what it raised. Raises WorkerFailure where the worker had to die."""
        work = task.function
        name = work if isinstance(work, str) else f"{work.__module__}:{work.__qualname__}"
        try:
            self.connection.send((task.label, name, task.arguments))
            clock = _Clock(limits, self._usage()[0])
            while True:
                if not self.connection.poll(LOOK):
                    self._look(limits, clock)
                    continue
                kind, value = self.connection.recv()
                if kind in ("item", "warning"):
                    put(value, self)
                    # Begun after `put`, which may have waited for room: that time is not the decoder's.
                    clock = _Clock(limits, self._usage()[0])
                elif kind == "memory":
                    self.kill()
                    raise WorkerFailure("memory", "there was no more memory for it")
                else:
                    return value if isinstance(value, Exception) else None
        except (EOFError, ConnectionError):
            raise self._died() from None

    def _look(self, limits: TaskLimits, clock: _Clock) -> None:
        if self.closed():
            raise _Closed
        self.check_memory(limits)
        reason = clock.over(self._usage()[0])
        if reason is not None:
            self.kill()
            raise WorkerFailure("time", reason)

    def check_memory(self, limits: TaskLimits) -> None:
        """Raises WorkerFailure, the worker killed, where it holds more than it may."""
        held = self._usage()[1] - self.size
        if held > limits.memory:
            self.kill()
            raise WorkerFailure("memory", f"it took {held / 2**30:.1f} GB, of {limits.memory / 2**30:.1f} GB allowed")

    def kill(self) -> None:
        """End the process, and wait for its end."""
        self.process.kill()
        self.process.wait()
        self.connection.close()

    def _died(self) -> WorkerFailure:
        """What became of a worker that went by itself."""
        # A dying process closes its connection a moment before it has an exit code.
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        self.kill()
        code = self.process.returncode
        if code == -signal.SIGKILL:
            return WorkerFailure("memory", "its process was killed, as the system does where memory runs out")
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return WorkerFailure("crash", f"its process crashed ({how})")

    def _usage(self) -> tuple[float, int]:
        """Seconds of processor time and bytes of memory so far; zeros where there is no /proc."""
        try:
            folder = Path(f"/proc/{self.process.pid}")
            # After the last parenthesis, since the command's name stands in parentheses and may hold any character.
            # RssAnon, since pages of mapped files are not the task's memory.
            times = (folder / "stat").read_text().rpartition(")")[2].split()
            status = (folder / "status").read_text().partition("RssAnon:")[2].split()
        except OSError:
            return 0.0, 0
        held = int(status[0]) * 1024 if status else 0  # a process that has ended has none
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"), held


class _Clock:
    """Tells whether a worker has been at one item for too long; `used` is its processor time so far."""

    def __init__(self, limits: TaskLimits, used: float) -> None:
        self.limits, self.used = limits, used
        self.looked = self.busy = time.monotonic()  # the last look, and the last one at which it was seen to work
        self.busy_used = used

    def over(self, used: float) -> str | None:
        """Why it is too long."""
        now = time.monotonic()
        stopped = now - self.looked > 50 * LOOK  # this process itself was
        if stopped or used - self.busy_used >= self.limits.idle_seconds / 300:
            self.busy, self.busy_used = now, used
        self.looked = now
        if used - self.used > self.limits.cpu_seconds:
            return f"it took more than {self.limits.cpu_seconds:g} s of processor time"
        if now - self.busy > self.limits.idle_seconds:
            return f"it stood still for {self.limits.idle_seconds:g} s"
        return None
