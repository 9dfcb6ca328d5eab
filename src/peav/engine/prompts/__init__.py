"""Prompts for language models: text files with a version in their name, found by name wherever peav is installed.

A prompt that ships is never changed: another text is another file, `rewrite_v2.txt`.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from peav.errors import RecipeError
from peav.utils.text import lines, parse_json, read_text

SHIPPED = Path(__file__).parent
_EXAMPLE = re.compile(r"<example>(.*?)</example>", re.DOTALL)


@dataclass(frozen=True)
class Prompt:
    """A prompt's text and what tells it from any other.

    Attributes:
        name: of its file, without the suffix.
        text: with line ends of one character, whatever the file's.
    """

    name: str
    text: str

    @property
    def hash(self) -> str:
        """The first 12 hexadecimal digits of the text's sha256."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """`NAME@HASH`, as provenance has it."""
        return f"{self.name}@{self.hash}"

    @cached_property
    def examples(self) -> tuple[tuple[dict[str, object], dict[str, object]], ...]:
        """What is given and what is answered in each `<example>`, two JSON objects on a line each.

        Raises:
            RecipeError: an example holds anything else.
        """
        return tuple(self._example(found) for found in _EXAMPLE.findall(self.text))

    def _example(self, text: str) -> tuple[dict[str, object], dict[str, object]]:
        where = f"prompt {self.name}: an <example>"
        found = [parse_json(line, where, RecipeError) for _, line in lines(text)]
        if len(found) != 2 or not all(isinstance(one, dict) for one in found):
            raise RecipeError(f"{where} needs two JSON objects, each on one line: {json.dumps(text)[:80]}")
        return found[0], found[1]


def load_prompt(name: str | Path) -> Prompt:
    """The prompt of a file, or the shipped one of that name.

    Raises:
        RecipeError: there is no such prompt; the message names those that ship.
        RecipeError: the file is empty, or not UTF-8.
    """
    path = Path(name)
    shipped = SHIPPED / f"{name}.txt"
    if not path.suffix and not path.is_file():
        if len(path.parts) != 1 or not shipped.is_file():
            known = ", ".join(shipped_prompts())
            raise RecipeError(f"no prompt {str(name)!r}; give the path of a text file, or one that ships: {known}")
        path = shipped
    text = read_text(path, RecipeError).replace("\r\n", "\n").replace("\r", "\n").strip()
    if not text:
        raise RecipeError(f"{path}: an empty prompt; write what the model is to do")
    return Prompt(path.stem, text)


def shipped_prompts() -> list[str]:
    """The names of the prompts that ship."""
    return sorted(path.stem for path in SHIPPED.glob("*.txt"))
