"""Words of captions: what the template and the checks know of English, and no more of it than they need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def _set(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_ENGLISH = _set(
    "a an the and or of in on at by to from with as is are was were be been being it its this that these those there "
    "then than he she they his their her them him who which while when where and into onto over under through for not "
    "no some something someone somebody another other each both very has have had can up down out off near"
)
# Of each language, those that English has not.
FUNCTION_WORDS: dict[str, frozenset[str]] = {"en": _ENGLISH} | {
    name: _set(known) - _ENGLISH
    for name, known in {
        "de": "der die das den dem des ein eine einen einem einer und oder von im am auf mit ist sind wird nicht sich",
        "fr": "le la les un une des du de et ou dans sur avec est sont qui que pas se au aux en il elle pour",
        "es": "el la los las un una unos unas de del y o en con es son que no se al por para su",
        "it": "il lo la gli le un una di del della e o in con è sono che non si al per su",
        "pt": "o a os as um uma de do da dos das e ou em no na com é são que não se ao por para",
    }.items()
}
STOP = _ENGLISH | _set("i we you what so but if again also just sound sounds heard view")
"""English words that say nothing of what a caption is about."""

VOICE = "voice"
# Who or what sounds, and what its sound is called. A word of a group is supported by any other of it.
_GROUPS: dict[str, tuple[str, str]] = {
    VOICE: (
        "narrator announcer speaker singer choir commentator lecturer crowd",
        "speech conversation dialogue dialog monologue voice vocal lyric interview commentary speak spoken talk say "
        "says said sing sang sung song whisper shout yell scream chant narrate chat chatter converse murmur mumble",
    ),
    "laughter": ("", "laughter laugh giggle chuckle"),
    "crying": ("baby infant", "cry sob weep wail"),
    "applause": ("audience crowd", "applause clap applaud cheer"),
    "music": (
        "music musical guitar piano violin drum drummer flute band orchestra accordion trumpet horn singer",
        "melody song sing strum tune",
    ),
    "dog": ("dog puppy hound animal pet", "bark howl growl woof yelp whimper"),
    "cat": ("cat kitten kitty animal pet", "meow purr hiss mew"),
    "bird": ("bird rooster hen chicken crow duck goose owl animal", "chirp tweet cluck quack squawk hoot coo"),
    "farm": ("cow cattle sheep goat pig horse animal", "moo bleat oink neigh"),
    "vehicle": (
        "vehicle car truck bus motorcycle motorbike engine motor traffic train tram boat plane airplane aircraft "
        "helicopter locomotive tractor",
        "honk rev hum roar rumble horn whistle",
    ),
    "alarm": ("siren alarm ambulance bell phone telephone", "ring beep toll chime buzz blare"),
    "weather": ("rain thunder storm wind", "thunder howl patter"),
    "water": ("water sea ocean wave river stream rain faucet shower fountain waterfall", "splash gurgle drip trickle"),
    "fire": ("fire flame campfire fireplace", "crackle"),
    "tool": ("chainsaw drill hammer machine mower blender vacuum engine", "hammer whir whirr buzz hum roar"),
    "gun": ("gun rifle explosion firework cannon", "gunshot gunfire shoot explode bang boom"),
    "breath": ("", "snore sneeze cough"),
    "insect": ("insect bee cricket mosquito cicada animal", "buzz chirp"),
}


def words(text: str) -> list[str]:
    """The words of a text, in lower case, without punctuation."""
    return _WORD.findall(text.lower())


@lru_cache(65536)
def stem(word: str) -> str:
    """A word without its English endings: `barking`, `barks` and `barked` are one."""
    for ending in ("'s", "’s"):
        word = word.removesuffix(ending)
    if word.endswith("ies") and len(word) > 4:
        word = f"{word[:-3]}y"
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word.removesuffix(ending)
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiousl":
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


def stems(texts: str | Iterable[str]) -> frozenset[str]:
    """The stems of the words that say what a text, or several together, are about."""
    texts = [texts] if isinstance(texts, str) else texts
    return frozenset(stem(word) for text in texts for word in words(text) if word not in STOP)


def ngrams(sequence: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All runs of `n` items, in their order."""
    return [tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1)]


SOURCES: dict[str, frozenset[str]] = {name: frozenset(map(stem, _set(who))) for name, (who, _) in _GROUPS.items()}
"""By group, the stems of who or what sounds."""
SOUNDS: dict[str, frozenset[str]] = {name: frozenset(map(stem, _set(sounds))) for name, (_, sounds) in _GROUPS.items()}
"""By group, the stems of what its sounds are called."""


def _groups(tables: Sequence[dict[str, frozenset[str]]]) -> dict[str, frozenset[str]]:
    members = {one for table in tables for found in table.values() for one in found}
    return {one: frozenset(name for table in tables for name in table if one in table[name]) for one in members}


GROUPS_OF_SOUND = _groups([SOUNDS])
"""The groups of each stem that is the name of a sound."""
GROUPS_OF_ALL = _groups([SOURCES, SOUNDS])
"""The groups of each stem of either table."""
