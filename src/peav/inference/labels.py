"""Labels: what to look for, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from peav.errors import LabelError
from peav.utils.text import readable

LabelInput = str | Sequence[str] | Mapping[str, str]
"""One label or many; a mapping gives each label the words that a model reads for it."""


def label_texts(labels: LabelInput) -> dict[str, str]:
    """Each label and the words that a model reads for it: `door_slam` is read without its underscore.

    Raises:
        LabelError: no labels, an empty one, one twice, something that is no string.
    """
    names = _checked(labels)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise LabelError(f"{', '.join(map(repr, twice))} stands twice among the labels; give each once")
    texts = {name: labels[name] if isinstance(labels, Mapping) else readable(name) for name in names}
    _checked(texts.values())
    return texts


def _checked(labels: str | Iterable[str]) -> tuple[str, ...]:
    names = (labels,) if isinstance(labels, str) else tuple(labels)
    if not names:
        raise LabelError("no labels: name at least one sound to listen for")
    for name in names:
        if not isinstance(name, str):
            raise LabelError(f"a label is a string, not {type(name).__name__}")
        if not name.strip():
            raise LabelError("an empty label: every label says what to listen for")
    return names
