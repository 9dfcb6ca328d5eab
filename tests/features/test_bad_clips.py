"""A few bad clips are passed over; many in a row, or a large share, stop the work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peav.data.manifest import Row
from peav.features.failures import Failures, TooManyFailures, write_failures

ROW = Row(id="x")


def test_a_hundred_in_a_row_stop_however_many_there_are() -> None:
    failures = Failures(10**6)
    for reason in ["bad"] * 99 + [None] + ["bad"] * 99:
        failures.note(ROW, reason)
    with pytest.raises(TooManyFailures, match=r"100 in a row clips cannot be read, the last being x: bad") as stop:
        failures.note(ROW, "bad")
    assert len(stop.value.failed) == 199


def test_more_than_five_in_a_hundred_stop_counting_those_of_earlier_runs() -> None:
    failures = Failures(1000, before=10)
    for _ in range(40):
        failures.note(ROW, "bad")
        failures.note(ROW, None)
    with pytest.raises(TooManyFailures, match="51 of 1000"):
        failures.note(ROW, "bad")


def test_twenty_may_fail_of_however_few() -> None:
    failures = Failures(20)
    for _ in range(20):
        failures.note(ROW, "bad")
    assert len(failures.failed) == 20


def test_an_empty_list_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    write_failures(str(path), [{"id": "é\udce9", "reason": "bad"}])
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == [{"id": "é\udce9", "reason": "bad"}]
    write_failures(str(path), [])
    assert not path.exists()
