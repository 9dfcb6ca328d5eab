"""Counts the tokens of a text, for what a run will cost."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from peav.errors import RecipeError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BYTES_A_TOKEN = 4  # of English, by the tokenizers of today's language models


def count_tokens(text: str, tokenizer: str | Path | None = None) -> tuple[int, bool]:
    """Tokens of a text, without those that a chat's template puts around it; and whether that is an estimate.

    Args:
        text: what is asked or answered.
        tokenizer: a `tokenizer.json`, a folder that has one, or a name on the hub, such as
            `meta-llama/Llama-3.1-8B-Instruct`; None: an estimate by the text's length.

    Raises:
        RecipeError: there is no such tokenizer, or it cannot be read.
        CheckpointError: the hub cannot be reached, or has no such model.
    """
    if tokenizer is None:
        return -(-len(text.encode()) // BYTES_A_TOKEN), True
    return len(_load(str(tokenizer)).encode(text, add_special_tokens=False).ids), False


@functools.lru_cache(maxsize=4)
def _load(name: str) -> Tokenizer:
    from tokenizers import Tokenizer

    from peav.checkpoint.hub import resolve

    path = Path(name)
    if not path.is_file():
        path = resolve(name, weights=False) / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise RecipeError(f"tokenizer {name}: {path} cannot be read ({error}); give a tokenizer.json") from error
