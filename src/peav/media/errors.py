"""Kept for one release: these errors stand in `peav.errors`."""

from peav.errors import *  # noqa: F403
