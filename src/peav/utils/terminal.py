"""Text that is safe to print. A file's name may hold any character, and a terminal obeys some of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

ENDLESS = 100_000  # characters
# These make a terminal show text in another order than it has.
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_BLANKS = re.compile(r" +$", re.MULTILINE)
# Control characters, halves of surrogate pairs (bytes of a name that are not UTF-8), ends of lines and paragraphs.
_UNSEEN = frozenset({"Cc", "Cs", "Zl", "Zp"})


def is_control(character: str) -> bool:
    """Whether a terminal would do something else with it than show it."""
    return unicodedata.category(character) in _UNSEEN or character in _BIDIRECTIONAL


def visible(text: str, keep: str = "") -> str:
    r"""`text` with every control character, ends of lines among them, written out: \x1b, \n, \u202e.

    Args:
        keep: control characters that stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_written(c) if is_control(c) and c not in keep else c for c in text)


def _written(character: str) -> str:
    return character.encode("unicode_escape").decode()


class SafeConsole(Console):
    """A Rich console that shows what a text holds, and sends nothing but Rich's own control codes to the terminal.

    Where there is no terminal, a line is as long as it is, without blanks at its end: other programs read it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, **options)  # else a name such as own.py:zero: is shown with a picture
        if not self.is_terminal and "width" not in options:
            self.width = ENDLESS

    def print(self, *objects: Any, **options: Any) -> None:
        """As Rich's; a table fills its last column up with blanks, which nobody needs in a file."""
        if self.is_terminal:
            super().print(*objects, **options)
            return
        with self.capture() as printed:
            super().print(*objects, **options)
        super().print(_BLANKS.sub("", printed.get()), end="", markup=False, highlight=False, soft_wrap=True)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments of a renderable, with control characters of their texts written out."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(visible(text, keep="\n"), style, control)
