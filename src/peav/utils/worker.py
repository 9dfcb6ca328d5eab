"""The inside of a worker process; see `peav.utils.workers`. It loads nothing but what its tasks need."""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

HOOK = "PEAV_WORKER_HOOK"
"""`module:function`, called with each task's label in the worker before the task: lets tests crash, hang or eat memory
for certain files, inside a real worker."""


def serve(connection: Connection, parent: int) -> None:
    """Carry out tasks until the other side of the connection is gone.

    A task is `(label, function, arguments)`. Answers are `("item", value)` for each item that the function yields and
    `("warning", warning)` for each warning, then one of `("done", None)`, `("memory", text)` or `("error", exception)`.
    """
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what ends
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is expected here, and its memory is of no use
    hook = _found(os.environ[HOOK]) if HOOK in os.environ else None
    connection.send(("ready", None))
    while True:
        try:
            label, function, arguments = connection.recv()
        except EOFError:
            return
        answer = _answer(connection, label, function, arguments, hook)
        give_back()  # before the parent looks at what this task has left
        connection.send(answer)


def give_back() -> None:
    """Return freed memory to the system (glibc; elsewhere nothing is done).

    glibc keeps what lies between pieces still in use: after a file of large frames that may be 100 MB, which would be
    counted against the files that follow.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _answer(
    connection: Connection, label: str, function: str, arguments: tuple[Any, ...], hook: Callable[[str], None] | None
) -> tuple[str, Any]:
    def show(message: Warning | str, *_: object, **__: object) -> None:
        connection.send(("warning", message))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")  # the parent's own filters decide
            warnings.showwarning = show
            if hook is not None:
                hook(label)
            for item in _found(function)(*arguments):
                connection.send(("item", item))
    except MemoryError as error:
        return "memory", str(error)
    except Exception as error:
        return "error", _portable(error)
    return "done", None


def _found(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def _portable(error: Exception) -> Exception:
    """The error, or what it says where it cannot be pickled; with the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    if frames:
        error.add_note(f"{os.path.basename(frames[-1].filename)}, line {frames[-1].lineno}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever a class's own pickling may raise
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _die_with(parent: int) -> None:
    """Have the system kill this process when the thread that started it ends, however it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it was gone before
        os._exit(1)
