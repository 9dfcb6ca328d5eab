"""Libraries of embeddings on disk, and search in them."""

from __future__ import annotations

from peav.errors import LibraryError
from peav.search.embed import embed_files
from peav.search.library import LibraryWriter, Row, is_library
from peav.search.query import TEXT_PAIR, Hit, Query, joint_query, media_query, search, text_query

__all__ = [
    "TEXT_PAIR",
    "Hit",
    "LibraryError",
    "LibraryWriter",
    "Query",
    "Row",
    "embed_files",
    "is_library",
    "joint_query",
    "media_query",
    "search",
    "text_query",
]
