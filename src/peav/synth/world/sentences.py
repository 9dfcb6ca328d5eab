"""What speakers say: short sentences of common words, and commands in the manner of the GRID corpus."""

from __future__ import annotations

import re

import numpy as np

_WORDS: dict[str, tuple[str, ...]] = {
    "adjective": ("small", "big", "old", "new", "happy", "quiet", "little", "strange", "heavy", "pretty"),
    "animal": ("horse", "rabbit", "monkey", "tiger", "chicken", "fish", "mouse", "lion"),
    "person": ("mother", "father", "brother", "sister", "teacher", "doctor", "friend", "neighbour"),
    "thing": ("apple", "book", "window", "table", "basket", "letter", "picture", "garden", "bottle", "paper"),
    "things": ("apples", "books", "flowers", "letters", "chairs", "tickets", "potatoes", "shoes"),
    "place": ("house", "river", "market", "school", "mountain", "station", "village", "island"),
    "motion": ("walked", "jumped", "waited", "slept", "played", "stopped"),
    "took": ("found", "bought", "carried", "wanted", "painted", "lost"),
    "take": ("open", "bring", "clean", "find", "carry", "move"),
    "near": ("near", "behind", "under", "beside", "inside"),
    "time": ("today", "tomorrow", "tonight", "again", "now", "every morning", "after lunch"),
    "number": ("two", "three", "five", "seven", "nine", "twenty"),
    "modal": ("should", "could", "will", "must"),
    "command": ("bin", "lay", "place", "set"),
    "colour": ("blue", "green", "red", "white"),
    "preposition": ("at", "by", "in", "with"),
    "character": tuple("abcdefghijklmnopqrstuvxyz"),
    "digit": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "adverb": ("again", "now", "please", "soon"),
}
_FORMS = (
    "the {adjective} {animal} {motion} {near} the {place}",
    "my {person} {took} {number} {things}",
    "my {adjective} {person} {took} a {thing}",
    "please {take} the {adjective} {thing} {time}",
    "we {modal} go to the {place} {time}",
    "can you {take} the {thing} {time}",
    "I {took} a {adjective} {thing} {near} the {place}",
    "the {person} {motion} {near} the {adjective} {place}",
    "there are {number} {adjective} {things} in the {place}",
    "your {person} {modal} {take} the {thing} {time}",
)
_GRID = "{command} {colour} {preposition} {character} {digit} {adverb}"
GRID_SHARE = 0.2


def draw_sentence(rng: np.random.Generator) -> str:
    """One sentence of four to nine words, without punctuation."""
    if rng.random() < GRID_SHARE:
        return _filled(_GRID, rng)
    sentence = _filled(_FORMS[int(rng.integers(len(_FORMS)))], rng)
    return re.sub(r"\ba (?=[aeiou])", "an ", sentence)


def _filled(form: str, rng: np.random.Generator) -> str:
    return re.sub(r"{(\w+)}", lambda slot: str(rng.choice(_WORDS[slot[1]])), form)
