"""A lock that one process holds at a time and that dies with it."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from peav.utils.atomic import on_disk

_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
_PATIENCE = 0.1  # seconds, in which a lock file that was just removed is made again


class FolderLock:
    """Holds `folder/lock`, making the folder; the system lets go of it when the process ends, however it ends.

    On a file system without locks (some network ones) nothing is held and nothing is refused; where it does not even
    know the call, filelock holds the folder by a file that is there.

    Args:
        held: what to raise in the place of BlockingIOError.

    Raises:
        BlockingIOError: another process, or another lock of this one, holds the folder.
        StorageError: it is an address in object storage, where nothing can be held.
    """

    def __init__(self, folder: Path, held: Exception | None = None) -> None:
        self.path, self._held = on_disk(folder) / "lock", held
        self._lock = FileLock(self.path, thread_local=False)  # any thread may release it
        while not self._acquired():
            pass  # the folder was just released, and so removed
        self._released = False

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """Let go, and remove the lock file and the folder if there is nothing else in it; twice is once."""
        if self._released:
            return
        self._released = True
        with suppress(OSError):  # something else is in the folder, or the next process has begun in it
            self.path.unlink()  # while it is held: who waits for it sees that it is gone, and makes another
            self.path.parent.rmdir()
        self._lock.release()

    def _acquired(self) -> bool:
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=_PATIENCE)
        except Timeout as error:
            held = self._held or BlockingIOError(errno.EWOULDBLOCK, "held by another process", str(self.path))
            raise held from error
        except FileNotFoundError:
            return False
        except FileExistsError:  # the folder went while `mkdir` looked whether it is one, or a file has its name
            if folder.exists() and not folder.is_dir():
                raise
            return False
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        return True
