"""Captions such as a captioning model writes: short, general, and now and then of a thing that is not there.

The world's own captions say all that there is, as people's do at their best. Clips that have both can tell what it
costs to train on a machine's captions, and what a few of people's mend (PE-AV, arXiv 2512.19687, mixes them 10 : 1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from peav.data.manifest import Row
from peav.data.transforms import SourceTransform
from peav.synth.world.captions import article
from peav.synth.world.kind import Kind
from peav.synth.world.kinds import KINDS

MISTAKEN = 0.15  # how often a thing is taken for another
PARAPHRASES = 3
PERSON = "person speaking"


@dataclass
class SyntheticCaptions(SourceTransform):
    """Clips of the world have a captioning model's captions as well as their own; `data.real_share` says how often a
    clip's own are read.
    """

    def all_rows(self, rows: list[Row]) -> list[Row]:
        """Every row with synthetic captions."""
        return [with_synthetic_captions(row) for row in rows]


def with_synthetic_captions(row: Row) -> Row:
    """A clip of the world with synthetic captions of every kind that it has a caption of; the same every time.

    They name the things and that someone speaks, in the picture also what is out of sight.
    """
    rng = np.random.default_rng(list(hashlib.sha256(row.id.encode()).digest()[:8]))
    made = {kind: [_caption(row, kind, rng) for _ in range(PARAPHRASES)] for kind, own in row.captions.items() if own}
    joined = {kind: [*texts, *made.get(kind, [])] for kind, texts in row.captions.items()}
    return replace(row, captions=joined, synthetic=made)


def _caption(row: Row, stream: str, rng: np.random.Generator) -> str:
    heard = {event.label for event in row.events}
    things = [_taken_for(KINDS[name], rng) for name in row.extra["kinds"]]
    sounding = [KINDS[name].label in heard for name in row.extra["kinds"]]
    parts = []
    for kind, sounds in zip(things, sounding, strict=True):
        if stream == "video":
            parts.append(article(_one(kind.nouns, rng)))
        elif sounds:
            parts.append(_one(kind.heard, rng))
        elif stream == "audio_video":
            parts.append(article(_one(kind.nouns, rng)))
    if row.transcript:
        parts.append(article("person" if stream == "video" else PERSON))
    order = [parts[place] for place in rng.permutation(len(parts))]
    return " and ".join(order) or "something"


def _taken_for(kind: Kind, rng: np.random.Generator) -> Kind:
    return list(KINDS.values())[rng.integers(len(KINDS))] if rng.random() < MISTAKEN else kind


def _one(words: Sequence[str], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]
