"""Files on disk or in object storage, read in parts: `s3://`, `gs://`, `memory://` and all else that fsspec reaches."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any, BinaryIO

from peav.errors import StorageError
from peav.utils.atomic import atomic_write
from peav.utils.remote import call, etag_of, fetch, info_of, open_file

_SINCE = "since it was first looked at; run the same command again, for what is there now"


WHOLE = -1  # the size of a part that is a whole file, which nobody has looked at


@dataclass(frozen=True)
class FilePart:
    """Bytes within a file, such as one member of a tar: `path` may be an address, `name` is how messages call it.

    With a `size` of WHOLE and no `name` it is all of the file, such as one in object storage. `version` tells the file
    from another that takes its place; what is computed from the part depends on it.
    """

    path: str
    offset: int
    size: int
    name: str
    version: str = field(default="", kw_only=True)

    def __str__(self) -> str:
        return f"{self.path}/{self.name}" if self.name else self.path

    def read(self) -> bytes:
        """The part.

        Raises:
            OSError: the file is missing, or ends before the part does.
            StorageError: the storage fails, or the file is not of the part's `version` any more.
        """
        if self.size == WHOLE:
            return read_all(self.path)
        return whole(self, read_range(self.path, self.offset, self.size, self.version))


@dataclass(frozen=True)
class FetchedPart(FilePart):
    """A part whose bytes are in memory, to be read several times."""

    data: bytes = field(repr=False, kw_only=True)

    def read(self) -> bytes:
        """The part."""
        return self.data


def whole(part: FilePart, data: bytes) -> bytes:
    """The data of a part. Raises OSError where it ends before the part does."""
    if len(data) < part.size:
        raise OSError(f"{part.path}: ends at byte {part.offset + len(data)}, within {part.name}; copy it again")
    return data


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the address of something in object storage."""
    return "://" in os.fspath(path)


def parent(path: str | Path) -> Path | str:
    """The folder of a file, or its address."""
    return str(path).rpartition("/")[0] if is_remote(path) else Path(path).parent


def join(folder: str, name: str) -> str:
    """The path of a file in a folder, or its address."""
    return f"{folder.rstrip('/')}/{name}"


def read_range(path: str, offset: int, size: int, version: str = "") -> bytes:
    """`size` bytes from `offset` on, fewer where the file ends before; one request, safe from several threads.

    Args:
        version: what `version_mark` said of the file that is meant; empty: whichever is there.

    Raises:
        StorageError: the storage fails, or there is another version. FileNotFoundError: no file, and no `version`.
    """
    try:
        if is_remote(path):
            return fetch(path, offset, size, version.partition(" ")[2] if version.endswith('"') else "")
        with open(path, "rb") as file:  # not by fsspec, which takes twice as long, and training reads clips by this
            if version and version != _mark(os.fstat(file.fileno())):
                raise StorageError(f"{path}: another file has taken its place {_SINCE}")
            file.seek(offset)
            return file.read(size)
    except FileNotFoundError as error:
        if version:
            raise StorageError(f"{path}: is gone {_SINCE}") from error
        raise


def open_binary(path: str | Path) -> BinaryIO:
    """A seekable file to read. Raises FileNotFoundError, StorageError."""
    return open_file(str(path)) if is_remote(path) else open(path, "rb")


def read_all(path: str | Path) -> bytes:
    """A whole file. Raises FileNotFoundError, StorageError."""
    if is_remote(path):
        data: bytes = call(str(path), lambda system, inner: system.cat_file(inner))
        return data
    with open_binary(path) as file:
        return file.read()


def version_mark(path: str) -> str:
    """Tells a file from another in its place: its size and ETag, or its time. Raises FileNotFoundError, StorageError.

    Files that are the same may have several times in object storage, as HEAD and lists of one server round them.
    """
    if not is_remote(path):  # fsspec rounds the time
        return _mark(os.stat(path))
    info = info_of(path)
    times = (str(info[key]) for key in ("LastModified", "mtime", "created") if key in info)
    return f"{info['size']} {etag_of(info) or next(times, '')}"


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # gone, or a link to what is not there
        return 0


def _mark(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns}"


def write_all(path: str | Path, data: bytes | str) -> None:
    """Write a file that is whole or absent: renamed into place on disk, one object in object storage; text as UTF-8."""
    data = data.encode() if isinstance(data, str) else data
    if is_remote(path):
        call(str(path), lambda system, inner: system.pipe_file(inner, data))
        return
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def remove(path: str | Path) -> None:
    """Remove a file, if it is there."""
    with suppress(FileNotFoundError):
        if is_remote(path):
            call(str(path), lambda system, inner: system.rm_file(inner))
        else:
            os.remove(path)


def matching(pattern: str) -> list[str]:
    """The files that a path or an address with `*`, `?` or `[0-3]` names, sorted; where it names none, itself."""
    if not any(sign in pattern for sign in "*?["):
        return [pattern]
    if not is_remote(pattern):
        return sorted(glob(pattern)) or [pattern]
    found = call(pattern, lambda system, inner: [system.unstrip_protocol(path) for path in system.glob(inner)])
    return sorted(found) or [pattern]


def names_in(folder: str) -> list[str]:
    """The names of the files in a folder, sorted; none where there is no such folder."""
    return sorted(sizes_in(folder))


def sizes_in(folder: str) -> dict[str, int]:
    """The files in a folder by name, with their sizes in bytes; none where there is no such folder."""
    with suppress(FileNotFoundError, NotADirectoryError):
        if not is_remote(folder):
            return {name: _size(os.path.join(folder, name)) for name in os.listdir(folder)}
        return call(folder, _list)
    return {}


def _list(system: Any, folder: str) -> dict[str, int]:
    folder = folder.rstrip("/")
    found = {info["name"].rstrip("/"): info["size"] or 0 for info in system.ls(folder, detail=True)}
    return {path.rpartition("/")[2]: size for path, size in found.items() if path != folder}  # not itself, a file
