"""Progress bars on stderr, so that stdout stays clean for results; where that is no terminal, a line now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from peav.utils.terminal import SafeConsole

EVERY = 30.0
"""Seconds between the lines of a log."""


class Indexed(Protocol):
    """A result that knows which input it belongs to."""

    @property
    def index(self) -> int:
        """Which one."""


I = TypeVar("I", bound=Indexed)  # noqa: E741


class Log(Progress):
    """What a bar would show as plain lines, at most one every 30 s: `encoding: 120 of 3120, 12.5 min left`."""

    said = 0.0

    def start(self) -> None:
        """A job that is shorter than the first wait prints nothing."""
        self.said = self.get_time()

    def stop(self) -> None:
        """Older versions of Rich end with an empty line."""

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """As of the bar; `track` moves it so."""
        super().advance(task_id, advance)
        self._say(task_id)

    def update(self, task_id: TaskID, **fields: Any) -> None:
        """As of the bar."""
        super().update(task_id, **fields)
        self._say(task_id)

    def _say(self, task_id: TaskID) -> None:
        if self.get_time() - self.said < EVERY:
            return
        self.said = self.get_time()
        task = self._tasks[task_id]
        of = "" if task.total is None else f" of {task.total:.0f}"
        left = "" if task.time_remaining is None else f", {task.time_remaining / 60:.1f} min left"
        self.console.print(f"{task.description}: {task.completed:.0f}{of}{left}", markup=False, highlight=False)


def bar(show: bool = True, *more: ProgressColumn) -> Progress:
    """A bar with counts and times, and `more` columns after them; without a terminal, a `Log`.

    Nothing that it prints is seen without `show`.
    """
    console = SafeConsole(stderr=True, quiet=not show)
    return (Progress if console.is_terminal else Log)(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        *more,
        # Of the time that is left: files that take minutes each have a rate too.
        speed_estimate_period=600.0,
        console=console,
        auto_refresh=console.is_terminal,  # else `track` leaves its counting to the bar's own thread
        disable=not (show and console.is_terminal),
    )


@contextmanager
def counting(description: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A bar, by the function that moves it: it is told how many are done and, where that was not known, of how many."""
    with bar() as progress:
        task = progress.add_task(description, total=total)
        yield lambda done, total=total: progress.update(task, completed=done, total=total)


def by_index(results: Iterable[I], total: int | None, show: bool, description: str = "encoding") -> Iterator[I]:
    """The same results; the bar stands at the input that they have come to."""
    with bar(show) as progress:
        task = progress.add_task(description, total=total)
        for result in results:
            progress.update(task, completed=result.index)
            yield result
        if total is not None:
            progress.update(task, completed=total)
