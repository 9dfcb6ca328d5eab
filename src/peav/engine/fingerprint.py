"""Models and other files that answers depend on, told by their content and not by their names.

A file is read once a process and version of it, since a stage's identity is asked for with every clip.
"""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

DIGITS = 12  # of a hash, where people read it


def of_file(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file. Raises OSError."""
    status = os.stat(path)
    return _of_bytes(os.fspath(path), status.st_size, status.st_mtime_ns)


def of_folder(folder: str | os.PathLike[str]) -> str:
    """A sha256 of the files in a folder and below, and of their names. Raises OSError."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    lines = [f"{path.relative_to(folder).as_posix()} {of_file(path)}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@cache
def _of_bytes(path: str, size: int, time: int) -> str:  # noqa: ARG001  # another size or time is another version
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
