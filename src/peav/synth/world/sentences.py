"""What speakers say: short sentences of common words, and commands in the manner of the GRID corpus."""

from __future__ import annotations

import re

import numpy as np

from peav.synth.world.tables import read_table

_TABLES = read_table("sentences")
GRID_SHARE = 0.2


def draw_sentence(rng: np.random.Generator) -> str:
    """One sentence of four to nine words, without punctuation."""
    if rng.random() < GRID_SHARE:
        return _filled(_TABLES["grid"], rng)
    sentence = _filled(_TABLES["forms"][int(rng.integers(len(_TABLES["forms"])))], rng)
    return re.sub(r"\ba (?=[aeiou])", "an ", sentence)


def _filled(form: str, rng: np.random.Generator) -> str:
    return re.sub(r"{(\w+)}", lambda slot: str(rng.choice(_TABLES["words"][slot[1]])), form)
