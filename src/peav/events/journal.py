"""detections.jsonl: what was found in every file, a line each, so that a run that stopped can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peav.events.formats import to_record
from peav.events.types import Event
from peav.utils.atomic import atomic_write
from peav.utils.jsonl import read_lines, to_line


class Journal:
    """Appends a line for each file, and knows which version of a file stands there already.

    Lines of other settings (model, labels, thresholds; a line has their fingerprint) are dropped when a run begins; so
    is one that was torn.

    Args:
        path: the file; its folder is made.
        settings: everything that decides what is found, ready for JSON.
        resume: keep the lines of earlier runs with the same settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any], resume: bool = True) -> None:
        self.path = path
        self.settings = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        self.lines: dict[str, dict[str, Any]] = {}
        if resume:
            kept = (line for line in read_lines(path) if line.get("settings") == self.settings and "path" in line)
            self.lines = {line["path"]: line for line in kept}
        self._rewrite()

    def has(self, path: str, size: int, mtime: int) -> bool:
        """Whether this version of the file has its line."""
        line = self.lines.get(path, {})
        return (line.get("size"), line.get("mtime")) == (size, mtime)

    def add(self, version: tuple[str, int, int], duration: float, events: Sequence[Event]) -> None:
        """Write a file's line; an older one of the same path gives way."""
        path, size, mtime = version
        again = path in self.lines
        line = {"path": path, "size": size, "mtime": mtime, "duration": round(duration, 3)}
        self.lines[path] = {**line, "events": [to_record(event) for event in events], "settings": self.settings}
        if again:
            self._rewrite()
            return
        with self.path.open("ab") as file:
            file.write(to_line(self.lines[path]))

    def _rewrite(self) -> None:
        with atomic_write(self.path) as temporary:
            temporary.write_bytes(b"".join(map(to_line, self.lines.values())))
