"""Checks of values that people wrote: each returns the value, or raises ValueError that says what it must be."""

from __future__ import annotations

import math
import reprlib
from typing import Any

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    return _REPR.repr(value)


def nested(value: Any, levels: int) -> bool:
    """Whether lists and objects stand in each other more than so many levels deep."""
    if not isinstance(value, (dict, list, tuple)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(nested(one, levels - 1) for one in inner)


def string(value: Any, name: str) -> str:
    """A string that can be written as UTF-8."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string, not {shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} holds half a character ({error.reason}): {value[:60]!a}") from error
    return value


def number(value: Any, name: str, of: str = "") -> float:
    """A finite number, 0 or more; `of` says of what, for the message."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{name} must be a number{of}, not {shown(value)}")
    try:
        amount = float(value)
    except OverflowError as error:
        raise ValueError(f"{name} is too large for a number{of}") from error
    if not (math.isfinite(amount) and amount >= 0):
        raise ValueError(f"{name} must be a number{of}, 0 or more, not {amount}")
    return amount


def seconds(value: Any, name: str) -> float:
    """A time: a finite number, 0 or more."""
    return number(value, name, " of seconds")


def span(onset: Any, offset: Any, names: tuple[str, str] = ("onset", "offset")) -> tuple[float, float]:
    """Two times in their order."""
    first, last = seconds(onset, names[0]), seconds(offset, names[1])
    if last < first:
        raise ValueError(f"{names[1]} ({last:g} s) is before {names[0]} ({first:g} s)")
    return first, last
