"""Kept for one release: these errors stand in `peav.errors`."""

from peav.errors import MissingSpeechError, WorldError

__all__ = ["MissingSpeechError", "WorldError"]
