"""What each split holds out: pairs of kinds, voices and sentences, by hash, so that no list has to be kept."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np

from peav.synth.world.kinds import KINDS
from peav.synth.world.kinds_nature import MUSIC
from peav.synth.world.sentences import draw_sentence
from peav.synth.world.voices import VOICES, Voice

SPLITS = ("train", "validation", "test")
HELD_OUT_PAIRS = 0.15
HELD_OUT_VOICES = 0.4  # share of speakers of validation and test who are not heard in training

_NAMES = tuple(KINDS)
_MUSIC = frozenset(kind.name for kind in MUSIC)


def _share(text: str) -> float:
    """A number in 0..1 that is the text's own."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48


@cache
def is_held_out(one: str, other: str) -> bool:
    """Whether these two kinds are never together in train and validation."""
    return one != other and _share("pair " + " | ".join(sorted((one, other)))) < HELD_OUT_PAIRS


def sentence_split(sentence: str) -> str:
    """The only split in which this sentence is said."""
    share = _share("sentence " + sentence)
    return "test" if share < 0.1 else "validation" if share < 0.2 else "train"


def draw_kinds(rng: np.random.Generator, count: int, split: str) -> list[str]:
    """`count` different kinds: no held-out pair outside test, at least one inside it; one kind of music at most."""
    chosen: list[str] = []
    while len(chosen) < count:
        fitting = [name for name in _NAMES if _fits(name, chosen, split)]
        chosen.append(fitting[int(rng.integers(len(fitting)))])
    return [chosen[int(position)] for position in rng.permutation(count)]


def _fits(name: str, chosen: list[str], split: str) -> bool:
    if name in chosen or (name in _MUSIC and not _MUSIC.isdisjoint(chosen)):
        return False
    if split == "test":
        return len(chosen) != 1 or is_held_out(name, chosen[0])
    return not any(is_held_out(name, other) for other in chosen)


def draw_voice(rng: np.random.Generator, split: str) -> Voice:
    """A voice that may speak in this split."""
    own = [voice for voice in VOICES if voice.split == split]
    common = [voice for voice in VOICES if voice.split is None]
    pool = own if own and rng.random() < HELD_OUT_VOICES else common
    return pool[int(rng.integers(len(pool)))]


def draw_transcript(rng: np.random.Generator, split: str) -> str:
    """A sentence of this split."""
    while sentence_split(sentence := draw_sentence(rng)) != split:
        pass
    return sentence
