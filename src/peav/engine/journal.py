"""What models have answered, kept line by line: a kill costs the requests in flight and no more.

A partition of a run has one journal. An answer stands under the hash of what was asked (`stage.request_key`), so that a
changed prompt or model asks anew, and nothing else does. A failure is kept as an answer is, until it is retried. Beside
the answer stand seconds, tokens and attempts: of these nothing reaches the shards.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from peav.engine.clip import Answer
from peav.utils.atomic import disk_errors
from peav.utils.jsonl import read_lines
from peav.utils.storage import write_all


def journal_path(out: Path, partition: str) -> Path:
    """The journal of a partition, by its name, in a run's folder."""
    return out / "journal" / f"{partition}.jsonl"


class Journal:
    """The answers of one partition. One process at a time writes to it.

    Attributes:
        lines: by the request's hash: `id`, `stage`, `seconds`, and `value` or `error` (its type, what it says).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, dict[str, Any]] = {line.pop("key"): line for line in read_lines(path) if "key" in line}
        self._file: int | None = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def add(self, key: str, clip: str, stage: str, answer: Answer | Exception, seconds: float = 0.0) -> None:
        """Keep an answer, or why there is none, in one write."""
        line: dict[str, Any] = {"id": clip, "stage": stage}
        if isinstance(answer, Answer):
            line |= {"value": answer.value, **_bill(answer)}
        else:
            line["error"] = [type(answer).__name__, " ".join(str(answer).split())]
        if seconds:
            line["seconds"] = round(seconds, 4)
        data = (json.dumps({"key": key, **line}, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
        self.lines[key] = line
        with disk_errors(self.path):
            if self._file is None:
                self._file = _open(self.path)
            while data:  # a disk that is all but full takes a part
                data = data[os.write(self._file, data) :]

    def forget_failures(self) -> list[str]:
        """Have what failed asked again; the ids of these clips."""
        failed = [line["id"] for line in self.lines.values() if "error" in line]
        if failed:
            self.lines = {key: line for key, line in self.lines.items() if "error" not in line}
            kept = ({"key": key, **line} for key, line in self.lines.items())
            write_all(self.path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))
        return failed


def _bill(answer: Answer) -> Mapping[str, int]:
    """The counts of an answer that are not the usual ones."""
    counts = (
        ("prompt_tokens", answer.prompt_tokens, 0),
        ("output_tokens", answer.output_tokens, 0),
        ("attempts", answer.attempts, 1),
    )
    return {name: count for name, count, usual in counts if count != usual}


def _open(path: Path) -> int:
    """A file to add lines to; one that a killed process left torn gets its line's end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.write(file, b"\n")
    return file
