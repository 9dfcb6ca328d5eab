"""What stops a run."""

from __future__ import annotations


class TrainingError(RuntimeError):
    """Training cannot go on; the message says what happened and what to change."""


class StateError(ValueError):
    """A checkpoint that cannot be trusted; the message says which and why."""
