"""Captions without a model: weak captions, weighed by their confidence and joined; the fallback of every rewriter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from peav.engine.clip import Answer, Clip, Sample, WeakCaption
from peav.engine.sources import NOTHING, Sources, plain
from peav.engine.stage import Stage
from peav.engine.words import SOUNDS, SOURCES, STOP, VOICE, stem, stems, words
from peav.types import Modality

TEMPLATE = "template"
"""The provenance of captions that no model wrote."""
MOST_PHRASES, MOST_WORDS = 3, 24  # stated of a kind; words of each
SPEAKS, VIEW = "a person speaks", "a view of"
_RANK = {"high": 0, "medium": 1, None: 1, "low": 2}  # not calibrated: neither trusted nor dropped
_SILENCE = frozenset(map(stem, ("silence", "silent", "soundless")))
_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)")
_SEPARATOR = re.compile(r"(, and |, | and )")
_OPENING = re.compile(
    r"(?:this is )?(?:(?:this|the|an?) )?(?:(?:short|audio|video|sound) )?"
    r"(?:clip|recording|video|image|picture|photo|audio) (?:of|shows|showing|contains|features|depicts) (?=\w)",
    re.IGNORECASE,
)


def fuse(weak: Sequence[WeakCaption], opening: str = "the sound of") -> list[str]:
    """What weak captions of one kind state together: phrases without capital or full stop, surest first.

    Captions are ranked by confidence (one without counts as medium), within it by score, then in the given order.

    1. Of each, its first sentence is taken, at most 24 words of it.
    2. High and medium ones are stated. Low ones only where there is nothing better, and then the first alone: two low
       ones are rather two errors than two sounds.
    3. Silence is not stated beside anything else.
    4. A caption whose words all stand in another one that is stated is a duplicate: "a dog barks" beside "a dog barking
       loudly". Of two with the same words the surer one stays. Captions that list things, "dog, bark and rain", are
       compared and left out thing by thing.
    5. At most three are stated. Bare labels get an `opening`: "the sound of rain".
    """
    ranked = sorted(
        (one for one in weak if words(one.text)),
        key=lambda one: (_RANK[one.confidence], 0.0 if one.score is None else -one.score),
    )
    sure = [one for one in ranked if one.confidence != "low"]
    phrases = [_phrase(one.text) for one in sure or ranked[:1]]
    phrases = [phrase for phrase in phrases if not _is_silence(phrase)] or phrases[:1]
    captions = [_things(phrase) for phrase in phrases]
    about = [stems(thing) for caption in captions for _, thing in caption]
    places = iter(range(len(about)))
    left = [[item for item in caption if not _stands_in(about, next(places))] for caption in captions]
    return [_stated(caption, opening) for caption in left if caption][:MOST_PHRASES]


def write(sources: Sources) -> dict[Modality, str]:
    """One caption for each kind that can be written, each a sentence.

    Sound and pictures are joined by "while": "a dog barks while a train passes"; by "and" where the latter have no verb
    of their own. A person is said to speak where there is a transcript and no stated caption of the sound tells of a
    voice. A caption of both streams that a captioner wrote goes before those that are joined here.
    """
    heard, seen = fuse(sources.weak["audio"]), fuse(sources.weak["video"], VIEW)
    both = fuse(sources.weak["audio_video"], "a clip of")
    if sources.transcript and not stems(heard) & (SOURCES[VOICE] | SOUNDS[VOICE]):
        heard = [*heard[: MOST_PHRASES - 1], SPEAKS]
    sound, picture = _joined(heard), _joined(seen)
    together = both[0] if both else _link(picture).join(filter(None, (sound, picture)))
    found: dict[Modality, str] = {"audio": sound, "video": picture, "audio_video": together}
    return {kind: _sentence(found[kind]) for kind in sources.kinds if found[kind]}


@dataclass
class Template(Stage):
    """Writes captions from the weak ones by `write`, without a model; the same every time.

    A kind of which nothing is known is left out. A clip with no kind at all is filtered: asking again would not help.
    """

    journaled: ClassVar[bool] = False
    version: ClassVar[int] = 1  # of the rules: what was written by another is written again

    def identity(self) -> Mapping[str, Any]:
        """The rules' version."""
        return {"class": "Template", "version": self.version}

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer]]:
        """Captions by kind."""
        for place, sample in enumerate(batch):
            yield place, Answer(write(Sources.of(sample.clip)))

    def apply(self, clip: Clip, value: Any) -> None:
        """Write the captions on the clip, or filter it."""
        clip.captions = dict(value)
        clip.provenance = dict.fromkeys(value, TEMPLATE)
        if not value:
            clip.filtered = NOTHING


@dataclass
class Fallback(Template):
    """The template's captions for clips whose rewrites were refused; `rejected` still says why."""

    def request(self, clip: Clip) -> Any:
        """None unless the rewrite in hand is rejected."""
        return {} if clip.rejected else None

    def apply(self, clip: Clip, value: Any) -> None:
        """Write the captions on the clip and mark it."""
        super().apply(clip, value)
        clip.fallback = True


def _phrase(text: str) -> str:
    """A caption's first sentence as a part of another: no full stop, no capital, no "this is a video of"."""
    whole = _OPENING.sub("", plain(text).strip("\"'“”‘’ "), count=1)
    sentences = [one.strip(" \"'“”,;:-") for one in _SENTENCE_END.split(whole)]
    said = next((one for one in sentences if words(one)), whole).split()
    cut = said[:MOST_WORDS]
    while len(cut) < len(said) and len(cut) > 1 and cut[-1].lower() in STOP:
        cut.pop()
    phrase = " ".join(cut).rstrip(" ,;:-")
    head = cut[0]
    if head != "I" and head[:1].isupper() and not any(letter.isupper() for letter in head[1:]):
        phrase = phrase[:1].lower() + phrase[1:]
    return phrase


def _is_silence(phrase: str) -> bool:
    about = stems(phrase)
    return bool(about & _SILENCE) and len(about) <= 2


def _things(phrase: str) -> list[tuple[str, str]]:
    """What a caption lists, each with what stands before it; the whole where it is more than a list."""
    parts = _SEPARATOR.split(phrase)
    things = list(zip(["", *parts[1::2]], parts[::2], strict=True))
    return things if all(len(stems(thing)) in (1, 2) for _, thing in things) else [("", phrase)]


def _stands_in(about: Sequence[frozenset[str]], place: int) -> bool:
    """Whether all words of one stand in another, or in one before it."""
    own = about[place]
    return any(own < other or (own == other and first < place) for first, other in enumerate(about))


def _stated(caption: Sequence[tuple[str, str]], opening: str) -> str:
    """What is left of a caption, as it stood; with an opening where it names things and tells nothing of them."""
    text = caption[0][1] + "".join(before + thing for before, thing in caption[1:])
    labels = [words(label) for label in re.split(r", | and | or ", text)]
    bare = all(len(label) == 1 or (len(label) == 2 and not any(map(_telling, label))) for label in labels)
    return f"{opening} {text}" if bare else text


def _telling(word: str) -> bool:
    """Whether it may be an article or a verb."""
    return word in STOP or word.endswith(("ing", "s"))


def _joined(phrases: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(phrases[:-1]), *phrases[-1:])))


def _link(picture: str) -> str:
    """What stands before what is seen: "a train passes" is a clause, "an office" and "a train passing" are none."""
    said = words(picture)
    verbs = [
        word
        for before, word in pairwise(said[1:])
        if word.endswith("s") and not word.endswith(("ss", "us")) and before not in STOP and not before.endswith("s")
    ]
    clause = verbs or {"is", "are", "has", "have"}.intersection(said)
    return " while " if clause and not picture.startswith(VIEW) else " and "


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
