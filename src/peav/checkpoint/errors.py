"""What can go wrong with a checkpoint."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint is missing, unreachable, incomplete or of an unknown layout; the message says what to do."""


def shorten(names: list[str] | set[str], limit: int = 8) -> str:
    """A readable list of names: the first few, then how many more."""
    ordered = sorted(names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more
