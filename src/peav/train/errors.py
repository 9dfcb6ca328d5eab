"""Kept for one release: these errors stand in `peav.errors`."""

from peav.errors import StateError, TrainingError

__all__ = ["StateError", "TrainingError"]
