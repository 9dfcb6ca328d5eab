"""Progress bars on stderr, so that stdout stays clean for results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from peav.utils.terminal import SafeConsole


class Indexed(Protocol):
    """A result that knows which input it belongs to."""

    @property
    def index(self) -> int:
        """Which one."""


I = TypeVar("I", bound=Indexed)  # noqa: E741


def bar(show: bool = True, *more: ProgressColumn) -> Progress:
    """A bar with counts and times, and `more` columns after them; silent without a terminal or `show`."""
    console = SafeConsole(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        *more,
        console=console,
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
