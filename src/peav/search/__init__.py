"""Libraries of embeddings on disk, and search in them."""

from __future__ import annotations

from peav.search.failures import FailureLog, Version, version_of
from peav.search.library import LibraryError, LibraryWriter, Row, is_library
from peav.search.query import TEXT_PAIR, Hit, Query, joint_query, media_query, search, text_query

__all__ = [
    "TEXT_PAIR",
    "FailureLog",
    "Hit",
    "LibraryError",
    "LibraryWriter",
    "Query",
    "Row",
    "Version",
    "is_library",
    "joint_query",
    "media_query",
    "search",
    "text_query",
    "version_of",
]
