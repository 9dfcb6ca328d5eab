"""failures.jsonl: what could not be embedded and why, a line for each version of a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from peav.utils.jsonl import read_lines, to_line

Version = tuple[str, int, int]  # path, size in bytes (-1: absent), modification time in nanoseconds (-1: absent)


class FailureLog:
    """Appends to the list of failures, and knows what is on it from earlier runs.

    Lines are only ever added, each in one write; a line that a killed process left torn is passed over. Libraries in
    one folder share the list, and each knows its own lines alone: another may be cut into windows that do work.
    """

    def __init__(self, path: Path, library: str) -> None:
        self.path, self.library = path, library
        self._listed = {_version(line): line for line in read_lines(path) if line.get("library") == library}

    def has(self, *version: str | int) -> bool:
        """Whether this version of the file failed before."""
        return version in self._listed

    def add(self, version: Version, error: Exception) -> None:
        """List a failure, unless the same version is listed with the same reason."""
        path, size, mtime = version
        line: dict[str, str | int] = {"path": path, "error": type(error).__name__, "reason": str(error)}
        line |= {"size": size, "mtime": mtime, "library": self.library}
        if self._listed.get(version) == line:
            return
        self._listed[version] = line
        data = to_line(line)
        with self.path.open("ab+") as log:
            if log.tell() and log.seek(-1, os.SEEK_END) >= 0 and log.read(1) != b"\n":
                data = b"\n" + data
            log.write(data)


def version_of(path: Path) -> Version:
    """What tells one version of a file from another."""
    try:
        status = path.stat()
    except OSError:  # decoding will say what is wrong with it
        return str(path), -1, -1
    return str(path), status.st_size, status.st_mtime_ns


def _version(line: dict[str, Any]) -> tuple[Any, ...]:
    return line.get("path"), line.get("size"), line.get("mtime")
