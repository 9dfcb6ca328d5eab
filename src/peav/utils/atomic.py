"""Files that are either whole or absent."""

from __future__ import annotations

import errno
import functools
import os
import platform
import re
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from peav.errors import StorageError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # as `Path` leaves it, too: of s3://bucket/x it makes s3:/bucket/x
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def _machine() -> str:
    """Names this machine since its start, and this container on it: who shares a folder knows only his own processes.

    The host name alone does not tell: containers of one image often have the same.
    """
    marks = [platform.node()]
    with suppress(OSError):  # not on Linux
        marks += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return f"{zlib.crc32('|'.join(marks).encode()):08x}"


_MACHINE = _machine()
_TEMPORARY = re.compile(rf"\..+\.peav-{_MACHINE}-(\d{{1,9}})-\w+\.tmp")


def on_disk(path: str | os.PathLike[str], what: str = "") -> Path:
    """A path, which must not be the address of something in object storage: that would be a folder `s3:` here.

    Args:
        what: the option or key that it was given by, for the message.

    Raises:
        StorageError: it is an address.
    """
    if _ADDRESS.match(os.fspath(path)):
        scheme, _, rest = os.fspath(path).partition(":/")
        address = f"{what and f'{what}: '}{scheme}://{rest.lstrip('/')}"
        raise StorageError(
            f"{address} is an address, and this must be a path on a disk; in object storage may be manifests, tars, "
            "what these name, and the features of `peav prepare`"
        )
    return Path(path)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; on success flush it to disk and rename it into place.

    If the block raises, or the process dies, `path` keeps what it held. Parent folders are made. Temporary files are
    named `.<name>.peav-<machine>-<process>-<random>.tmp`; what killed processes of this machine left of them is
    removed by the next success that replaces a file in the folder, or is a process's first there.

    Raises:
        StorageError: `path` is an address.
    """
    target = on_disk(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.peav-{_MACHINE}-{os.getpid()}-"
    temporary = target.parent / f"{prefix}{secrets.token_hex(6)}.tmp"
    try:
        with disk_errors(target):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # with the process's own umask
            yield temporary
            # Before the rename: else a machine that goes down could leave the name with nothing behind it.
            sync(temporary)
            replaces = target.exists()
            temporary.replace(target)
            # The rename itself lasts once the folder is on the disk.
            sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
    (_sweep if replaces else _sweep_once)(target.parent.resolve())


@contextmanager
def disk_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Have errors of a disk that takes no more name the file and say what to do; errors that name a file are kept."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        reason = f"{os.strerror(error.errno)}; make room there and run the same command again, it goes on"
        raise OSError(error.errno, reason, os.fspath(path)) from error


def _sweep(folder: Path) -> None:
    """Remove the temporary files in `folder` whose process is gone."""
    with suppress(OSError):  # the write has succeeded, whatever becomes of the litter
        for name in os.listdir(folder):
            if (found := _TEMPORARY.fullmatch(name)) and not _runs(int(found[1])):
                (folder / name).unlink(missing_ok=True)


_sweep_once = functools.cache(_sweep)  # a folder of n new files would be listed n times otherwise


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # as another user
        return True
    return True


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
