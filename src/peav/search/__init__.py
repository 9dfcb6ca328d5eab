"""Libraries of embeddings on disk, and search in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peav.errors import LibraryError
from peav.search.embed import embed_files
from peav.search.library import LibraryRow, LibraryWriter
from peav.search.query import Hit, Query, joint_query, make_query, media_query, search, text_query
from peav.utils.renamed import renamed

__all__ = [
    "Hit",
    "LibraryError",
    "LibraryRow",
    "LibraryWriter",
    "Query",
    "embed_files",
    "joint_query",
    "make_query",
    "media_query",
    "search",
    "text_query",
]

if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"Row": "peav.search.library:LibraryRow", "TEXT_PAIR": "peav.encoder:TEXT_PAIR"})
