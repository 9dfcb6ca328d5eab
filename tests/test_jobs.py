"""Ledgers: nothing on them is lost or said twice, whatever a killed process left there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peav.jobs import Ledger

VERSION = ("/a/b.wav", 12, 34)


def failures(path: Path, library: str = "lib.parquet") -> Ledger:
    return Ledger(path, {"library": library})


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_failure_is_known_to_the_next_run_until_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    failures(path).fail(VERSION, ValueError("b.wav: cut off"))
    log = failures(path)
    assert log.has(VERSION)
    assert not log.has(("/a/b.wav", 13, 34))
    assert not log.has(("/a/b.wav", 12, 35))
    assert not failures(path, "other.parquet").has(VERSION)
    wanted = {"path": "/a/b.wav", "error": "ValueError", "reason": "b.wav: cut off", "size": 12, "mtime": 34}
    assert lines(path) == [wanted | {"library": "lib.parquet"}]


def test_lines_are_only_added_and_the_same_failure_once(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    path.write_text('{"path": "/old.wav", "error": "E", "reason": "of an older version"}\n')
    before = path.read_bytes()
    for reason in ("cut off", "cut off", "another reason"):
        failures(path).fail(VERSION, ValueError(reason))
    assert path.read_bytes().startswith(before)
    assert [line["reason"] for line in lines(path)] == ["of an older version", "cut off", "another reason"]


@pytest.mark.parametrize("torn", [b'{"path": "/c.wav", "err', b"\xf0\x9f", b"\0\0\0\0", b"[1]"])
def test_a_torn_line_costs_no_other(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "failures.jsonl"
    failures(path).fail(VERSION, ValueError("first"))
    with path.open("ab") as file:
        file.write(torn)
    second = ("/caf\udce9\u2028.wav", 1, 2)  # a byte that is not UTF-8, and a line separator inside a name
    failures(path).fail(second, ValueError("second"))
    log = failures(path)
    assert log.has(VERSION)
    assert log.has(second)
    assert path.read_bytes().split(b"\n")[1] == torn
