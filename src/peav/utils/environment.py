"""Settings that the environment overrides."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


def variable(prefix: str, field: str) -> str:
    """The environment variable of a field: `PEAV_MEDIA` and `pixels` make PEAV_MEDIA_PIXELS."""
    return f"{prefix}_{field.upper()}"


def from_environment(kind: type[T], prefix: str) -> T:
    """A dataclass of numbers, all with defaults, each as its variable says where there is one.

    Raises ValueError for a variable that is no positive number.
    """
    values: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        name = variable(prefix, field.name)
        number: Any = type(field.default)
        try:
            values[field.name] = number(os.environ.get(name, field.default))
        except ValueError:
            values[field.name] = 0
        if not values[field.name] > 0:
            raise ValueError(f"{name}={os.environ[name]}: give a positive {number.__name__}")
    return kind(**values)
