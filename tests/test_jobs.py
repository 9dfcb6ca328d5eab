"""Ledgers: nothing on them is lost or said twice, whatever a killed process left there."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from peav.errors import NotMediaError
from peav.jobs import GOES_ON, Ledger, Stopped, claim, failure, make_all, stoppable, write_failures
from peav.utils.jsonl import read_lines

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


def test_a_ledger_of_its_own_has_each_path_once_and_no_line_of_others(tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    path.write_text('{"path": "/other.wav", "size": 1, "mtime": 2, "settings": "b"}\n')
    done = Ledger(path, {"settings": "a"}, alone=True)
    changed, second = ("/a/b.wav", 13, 35), ("/c.wav", 1, 2)
    for version in (VERSION, second, second, changed):
        done.add(version, {"events": []})
    assert [done.has(version) for version in (VERSION, second, changed)] == [False, True, True]
    assert [(line["path"], line["size"]) for line in lines(path)] == [("/c.wav", 1), ("/a/b.wav", 13)]
    again = Ledger(path, {"settings": "a"}, alone=True)
    assert [again.has(version) for version in (VERSION, second, changed)] == [False, True, True]
    assert not Ledger(path, {"settings": "a"}, alone=True, resume=False).has(second)
    assert path.read_bytes() == b""


def test_failures_are_counted_by_their_type(tmp_path: Path) -> None:
    log = failures(tmp_path / "failures.jsonl")
    for version, error in ((VERSION, ValueError("a")), (("/b", 1, 2), NotMediaError("b")), (VERSION, ValueError("a"))):
        log.fail(version, error)
    assert log.failed == {"ValueError": 2, "NotMediaError": 1}


@pytest.mark.parametrize("folder", ["{}", "memory:/{}"])
def test_a_list_that_is_written_whole_is_as_a_ledgers_and_without_lines_no_file(folder: str, tmp_path: Path) -> None:
    path, line = f"{folder.format(tmp_path)}/failures.jsonl", failure("/caf\udce9.wav", ValueError("cut off"), id="x")
    write_failures(path, [line, line])
    assert read_lines(path) == [line, line]
    assert line == {"path": "/caf\udce9.wav", "error": "ValueError", "reason": "cut off", "id": "x"}
    write_failures(path, [])
    assert read_lines(path) == []
    write_failures(path, [])
    assert not (tmp_path / "failures.jsonl").exists()


def test_a_folder_holds_what_was_noted_first(tmp_path: Path) -> None:
    note = tmp_path / "new" / "note.json"
    assert claim(note, {"seed": 1}) == {"seed": 1}
    assert claim(note, {"seed": 2}) == {"seed": 1}


def square(number: int) -> int:
    return number * number


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_all_are_made_in_order_and_a_stop_ends_it_and_says_how_many(jobs: int) -> None:
    told: list[int] = []
    assert make_all(square, range(20), "are made", told.append, jobs) == [number**2 for number in range(20)]
    assert told == list(range(1, 21))

    def stop(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(Stopped, match=f"stopped: 3 of 10000 are kept; {GOES_ON}") as stopped:
        make_all(square, range(10**4), f"are kept; {GOES_ON}", stop, jobs)
    assert stopped.value.exit_code == 130


def test_a_stop_says_its_signal_though_a_library_raises_its_own_interrupt() -> None:
    """As Ray does while it waits."""

    @stoppable(lambda: "3 are kept")
    def interrupted() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None

    with pytest.raises(Stopped, match="stopped: 3 are kept") as stopped:
        interrupted()
    assert stopped.value.exit_code == 143
