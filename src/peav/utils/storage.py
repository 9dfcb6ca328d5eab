"""Files on disk or in object storage, read in parts: `s3://`, `gs://`, `memory://` and all else that fsspec reaches."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any, BinaryIO, cast

from peav.errors import StorageError
from peav.utils.atomic import atomic_write


@dataclass(frozen=True)
class FilePart:
    """Bytes within a file, such as one member of a tar: `path` may be an address, `name` is how messages call it.

    `version` tells the file from another that takes its place; what is computed from the part depends on it.
    """

    path: str
    offset: int
    size: int
    name: str
    version: str = field(default="", kw_only=True)

    def __str__(self) -> str:
        return f"{self.path}/{self.name}"

    def read(self) -> bytes:
        """The part. Raises OSError where the file is missing, or ends before the part does."""
        data = read_range(self.path, self.offset, self.size)
        if len(data) < self.size:
            raise OSError(f"{self.path}: ends at byte {self.offset + len(data)}, within {self.name}; copy it again")
        return data


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the address of something in object storage."""
    return "://" in os.fspath(path)


def join(folder: str, name: str) -> str:
    """The path of a file in a folder, or its address."""
    return f"{folder.rstrip('/')}/{name}"


def read_range(path: str, offset: int, size: int) -> bytes:
    """`size` bytes from `offset` on, fewer where the file ends before; one request, safe from several threads."""
    if not is_remote(path):  # not by fsspec, which takes twice as long, and training reads clips by this
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)
    system, inner = _system(path)
    return cast(bytes, system.cat_file(inner, start=offset, end=offset + size))


def open_binary(path: str | Path) -> BinaryIO:
    """A seekable file to read. Raises FileNotFoundError."""
    system, inner = _system(path)
    return cast(BinaryIO, system.open(inner, "rb"))


def read_all(path: str | Path) -> bytes:
    """A whole file. Raises FileNotFoundError."""
    with open_binary(path) as file:
        return file.read()


def size_and_time(path: str) -> tuple[int, str]:
    """What tells one version of a file from another. Raises FileNotFoundError."""
    if not is_remote(path):  # fsspec rounds the time
        status = Path(path).stat()
        return status.st_size, str(status.st_mtime_ns)
    system, inner = _system(path)
    info = system.info(inner)
    marks = [str(info[key]) for key in ("ETag", "etag", "LastModified", "mtime", "created") if key in info]
    return info["size"], " ".join(marks)


def write_all(path: str | Path, data: bytes | str) -> None:
    """Write a file that is whole or absent: renamed into place on disk, one object in object storage; text as UTF-8."""
    data = data.encode() if isinstance(data, str) else data
    if is_remote(path):
        system, inner = _system(path)
        system.pipe_file(inner, data)
        return
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def remove(path: str | Path) -> None:
    """Remove a file, if it is there."""
    system, inner = _system(path)
    if system.exists(inner):
        system.rm_file(inner)


def matching(pattern: str) -> list[str]:
    """The files that a path or an address with `*`, `?` or `[0-3]` names, sorted; where it names none, itself."""
    if not any(sign in pattern for sign in "*?["):
        return [pattern]
    if not is_remote(pattern):
        return sorted(glob(pattern)) or [pattern]
    system, inner = _system(pattern)
    system.invalidate_cache()  # another process may have written since
    return sorted(map(system.unstrip_protocol, system.glob(inner))) or [pattern]


def names_in(folder: str) -> list[str]:
    """The names of the files in a folder, sorted; none where there is no such folder."""
    system, inner = _system(folder)
    # fsspec remembers listings; another process may have written since.
    system.invalidate_cache()
    paths = system.ls(inner, detail=False) if system.isdir(inner) else []
    return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in paths)


def _system(path: str | Path) -> tuple[Any, str]:
    """The file system of a path or an address, and the path in it; fsspec keeps file systems for the next call."""
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    if not is_remote(path):
        return LocalFileSystem(), os.path.abspath(path)
    try:
        system, inner = url_to_fs(str(path))
    except (ImportError, ValueError) as error:
        fix = "addresses need s3fs or gcsfs: pip install 'peav[s3]' or 'peav[gcs]'"
        raise StorageError(f"{path}: {error}; {fix}") from error
    return system, inner
