"""Labels as data sets write them, and as a model reads them."""

from __future__ import annotations


def readable(label: str) -> str:
    """A label as words: `door_wood_knock` is read as "door wood knock"."""
    return label.replace("_", " ").strip()
