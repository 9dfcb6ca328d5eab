"""A lock that one process holds at a time and that dies with it."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


class FolderLock:
    """Holds `folder/lock`, making the folder; the system lets go of it when the process ends, however it ends.

    On a file system without locks (some network ones) nothing is held and nothing is refused.

    Raises:
        BlockingIOError: another process, or another lock of this one, holds the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self.descriptor: int | None = self._open()

    def release(self) -> None:
        """Let go, and remove the lock file and the folder if there is nothing else in it; twice is once."""
        if self.descriptor is None:
            return
        with suppress(OSError):  # something else is in the folder, or the next process has begun in it
            self.path.unlink()
            self.path.parent.rmdir()
        os.close(self.descriptor)
        self.descriptor = None

    def _open(self) -> int:
        while True:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:  # the folder was just released
                continue
            with ExitStack() as undo:
                undo.callback(os.close, descriptor)
                _lock(descriptor)
                with suppress(FileNotFoundError):  # the file was released, and so removed, between opening and locking
                    if os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                        undo.pop_all()
                        return descriptor


def _lock(descriptor: int) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise BlockingIOError(error.errno, "held by another process") from error
