"""Spans of time, and how a long file is cut into them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from peav.errors import WindowError

SHORTEST_TAIL = 1.0
"""Seconds: a shorter rest joins the window before it, since an embedding of a few milliseconds says nothing."""


@dataclass(frozen=True, order=True)
class Window:
    """A span `[start, end)` of a file's timeline, in seconds."""

    start: float
    end: float

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.end - self.start


def windows(duration: float, length: float = 30.0) -> list[Window]:
    """Cut `duration` seconds into windows of `length` seconds that touch.

    The last one holds the rest; a rest shorter than `SHORTEST_TAIL` joins the window before it.
    Raises `WindowError` where a length is not a positive number.
    """
    if not (math.isfinite(duration) and duration > 0):
        raise WindowError(f"a duration of {duration} s cannot be cut into windows: give a positive number of seconds")
    check_length(length)
    count = max(1, math.ceil(duration / length))
    if count > 1 and duration - (count - 1) * length < SHORTEST_TAIL:
        count -= 1
    return [Window(i * length, (i + 1) * length if i + 1 < count else duration) for i in range(count)]


def check_length(length: float) -> None:
    """Raise `WindowError` unless `length` is a window length in seconds that can be used."""
    if not (math.isfinite(length) and length >= SHORTEST_TAIL):
        raise WindowError(f"windows of {length} s cannot be made: give a length of at least {SHORTEST_TAIL:g} s")


def check_window(start: float, end: float | None) -> Window:
    """The window `[start, end)`, `end=None` meaning the end of the file. Raises `WindowError` where it is none."""
    stop = math.inf if end is None else float(end)
    if not (math.isfinite(start) and start >= 0):
        raise WindowError(f"start={start} is no time in a file: give seconds from 0")
    if not stop > start:
        raise WindowError(f"start={start}, end={end} is an empty window: end must be after start")
    return Window(float(start), stop)
