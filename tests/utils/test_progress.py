"""How a long job says how far it is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from peav.utils import progress


@dataclass
class Result:
    index: int


def run(show: bool = True) -> None:
    """Three jobs of each kind."""
    assert [r.index for r in progress.by_index(map(Result, range(3)), 3, show)] == [0, 1, 2]
    with progress.counting("making clips") as counted:
        counted(1)
        counted(2, 4)
    with progress.bar(show) as bar:
        assert list(bar.track("ab", description="listening")) == ["a", "b"]


def test_a_short_job_prints_nothing_where_nobody_looks(capfd: pytest.CaptureFixture[str]) -> None:
    run()
    assert capfd.readouterr() == ("", "")


def test_a_long_job_is_a_line_each_time_on_stderr_and_silent_if_asked(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    run()
    out, err = capfd.readouterr()
    assert out == ""
    lines = [re.sub(r", [\d.]+ min left$", ", X min left", line) for line in err.splitlines()]
    assert lines == [
        *("encoding: 0 of 3", "encoding: 1 of 3", "encoding: 2 of 3, X min left", "encoding: 3 of 3, X min left"),
        *("making clips: 1", "making clips: 2 of 4"),
        *("listening: 1 of 2", "listening: 2 of 2, X min left"),
    ]
    list(progress.by_index(map(Result, range(3)), 3, show=False))
    assert capfd.readouterr() == ("", "")


def test_a_line_comes_at_most_every_thirty_seconds_and_tells_the_time_that_is_left(
    capfd: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    bar = progress.bar()
    bar.get_time = lambda: now[0]
    with bar:
        task = bar.add_task("training", total=100)
        for done in range(1, 11):  # ten seconds each
            now[0] += 10.0
            bar.update(task, completed=done)
    assert capfd.readouterr().err.splitlines() == [
        "training: 3 of 100, 16.2 min left",
        "training: 6 of 100, 15.7 min left",
        "training: 9 of 100, 15.2 min left",
    ]
