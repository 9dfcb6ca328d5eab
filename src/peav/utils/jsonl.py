"""Lists that grow by a line of JSON at a time, and survive a process killed in the middle of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peav.utils.storage import read_all


def to_line(entry: Mapping[str, Any]) -> bytes:
    """One line; what is not UTF-8 in a name becomes JSON's own escape for it."""
    return (json.dumps(entry, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """Every whole object in a file or at an address; torn lines are passed over, and no file is an empty list."""
    try:
        data = read_all(path)
    except FileNotFoundError:
        return []
    found = []
    for line in data.split(b"\n"):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):  # torn, or nothing, or thousands of brackets
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found
