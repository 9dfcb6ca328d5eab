"""Whom a training run tells how it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Reporter(Protocol):
    """Who is told how a run goes."""

    def stage(self, name: str, total: int | None) -> None:
        """A new stage begins; `total` is its number of steps where known."""

    def advance(self, done: int, note: str = "") -> None:
        """The stage has done so much."""

    def step(self, record: Mapping[str, Any]) -> None:
        """One training step's log record."""
