"""What a rewritten caption must not be: each check is a function in a table, and says what is wrong or nothing.

Checks are conservative: what they refuse is asked for once more and then replaced by the template's caption, so that a
wrong refusal costs style and a wrong pass costs truth. They know English only.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, ClassVar

from peav.engine.clip import Answer, Clip, Sample
from peav.engine.prompts import Prompt, load_prompt
from peav.engine.sources import Sources
from peav.engine.stage import Stage
from peav.engine.words import (
    FUNCTION_WORDS,
    GROUPS_OF_ALL,
    GROUPS_OF_SOUND,
    SOUNDS,
    SOURCES,
    VOICE,
    ngrams,
    stems,
    words,
)
from peav.errors import RecipeError
from peav.types import Modality

SHORTEST, LONGEST = 2, 80  # words; one of sound and pictures may have twice as many
_LATIN_SHARE = 0.9  # of letters
_TELLING = 12  # words without any English function word: another language, or none
_PROMPT_RUN, _EXAMPLE_RUN, _EXAMPLE_STEMS = 6, 5, 3  # words in a row, or words at all, that are a copy
_LOOP_RUN, _LOOP_TIMES = 5, 4
_QUOTED = re.compile('"([^"]+)"|“([^“”]+)”|«([^«»]+)»')
_LEAKS = re.compile(
    r"\bconfidence\b|\b(?:similarity|confidence|probability) scores?\b|\bweak captions?\b|\baudio_visual\b"
    r"|\b(?:the|this|these|a) captions?\b|\btranscript\b|\b(?:as an ai|language model|i cannot|i can't|i'm sorry)\b"
    r"|\b(?:ignore|disregard) (?:all |any |the )?(?:previous|prior|above|earlier)\b"
    r"|(?<![\w.])-?[01]?\.\d{2,}(?!\w|\.\w)"
    r"|[{}<>\[\]|`]",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Case:
    """One caption and what it may be made of.

    Attributes:
        kind: of the caption.
        text: of the caption.
        sources: what was known of the clip.
        prompt: what the rewriter was told; its examples are not to come back.
    """

    kind: Modality
    text: str
    sources: Sources
    prompt: Prompt

    @cached_property
    def words(self) -> list[str]:
        """Of the caption."""
        return words(self.text)

    @cached_property
    def unquoted(self) -> str:
        """The caption without what it quotes."""
        return _QUOTED.sub(" ", self.text)


def length(case: Case) -> str | None:
    """Too few words or too many."""
    count, longest = len(case.words), LONGEST * (2 if case.kind == "audio_video" else 1)
    return None if SHORTEST <= count <= longest else f"{count} words, not {SHORTEST} to {longest}"


def language(case: Case) -> str | None:
    """Letters of another script than Latin, or more function words of another language than of English.

    Quoted words may be in any language.
    """
    letters = [letter for letter in case.unquoted if letter.isalpha()]
    latin = sum(letter.isascii() or unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    if latin < _LATIN_SHARE * len(letters):
        return "not in Latin letters; write English"
    said = words(case.unquoted)
    counts = {name: sum(word in known for word in said) for name, known in FUNCTION_WORDS.items()}
    english = counts.pop("en")
    other = max(counts, key=lambda name: counts[name])
    if counts[other] > max(english, 1) or (len(said) >= _TELLING and not english):
        return "not English"
    return None


def leak(case: Case) -> str | None:
    """Words that are not about the clip: confidence, raw scores, brackets, a run of the prompt's words."""
    given = " ".join(case.sources.all).lower()
    for found in _LEAKS.finditer(case.unquoted):
        if found[0].lower() not in given:
            return f"{found[0]!r} is not about the clip"
    for run in _runs(case, _PROMPT_RUN, _runs_of_prompt(case.prompt)):
        return f"{' '.join(run)!r} stands in the instructions"
    return None


def example(case: Case) -> str | None:
    """Words of one of the prompt's examples that nothing known of the clip has: a run of 5, or any 3."""
    about = stems(case.text) - case.sources.stems
    runs, subjects = _of_examples(case.prompt)
    if _runs(case, _EXAMPLE_RUN, runs) or any(len(about & subject) >= _EXAMPLE_STEMS for subject in subjects):
        return "taken from an example of the instructions and not from this clip"
    return None


def speech(case: Case) -> str | None:
    """Somebody is said to speak or sing, or is quoted, where no weak caption and no transcript has it."""
    for quoted in (next(filter(None, found.groups())) for found in _QUOTED.finditer(case.text)):
        if not any(_within(quoted, text) for text in case.sources.all):
            return f"nobody says {quoted!r}"
    if case.kind == "video" or case.sources.transcript:
        return None
    given = case.sources.stems
    invented = (stems(case.unquoted) - given) & SOUNDS[VOICE]
    supported = given & (SOUNDS[VOICE] | SOURCES[VOICE])
    return f"{min(invented)!r}, but nobody is known to speak or sing" if invented and not supported else None


def heard(case: Case) -> str | None:
    """A sound that nothing known of the clip's sound supports; words are supported by any of their own group.

    In a caption of the sound, what sounds counts as well as its sound: a dog that is only seen is not there. In one of
    both, its sounds alone do, and not those that the captions of the pictures have.
    """
    if case.kind == "video":
        return None
    by_ear = stems(case.sources.texts(("audio", "audio_video")))
    if case.sources.transcript:
        by_ear |= SOURCES[VOICE]
    claimed = stems(case.unquoted) - by_ear
    if case.kind == "audio_video":
        claimed -= stems(case.sources.texts(("video",)))
    groups = GROUPS_OF_ALL if case.kind == "audio" else GROUPS_OF_SOUND
    supported = {group for word in by_ear for group in GROUPS_OF_ALL.get(word, ())}
    unheard = sorted(word for word in claimed if word in groups and not groups[word] & supported)
    return f"{unheard[0]!r} is in no caption of the sound" if unheard else None


def repetition(case: Case) -> str | None:
    """The same words over and over: a run three times in a row, or one of 5 words four times."""
    said = case.words
    for size in range(1, 9):
        times = 4 if size == 1 else 3
        for start in range(len(said) - size * times + 1):
            run = said[start : start + size]
            if said[start] == said[start + size] and said[start : start + size * times] == run * times:
                return f"{' '.join(run)!r} again and again"
    for often, count in Counter(ngrams(said, _LOOP_RUN)).items():
        if count >= _LOOP_TIMES:
            return f"{' '.join(often)!r} again and again"
    return None


CHECKS: dict[str, Callable[[Case], str | None]] = {
    check.__name__: check for check in (length, language, leak, example, speech, heard, repetition)
}
"""By name, what each caption is held against; the answer as a whole is checked where it is read, see `rewrite.read`."""


@dataclass
class Check(Stage):
    """Refuses captions: each check that finds something puts `NAME: what, of which caption` into `rejected`.

    Attributes:
        checks: their names, of `CHECKS`.
        prompt: that of the rewriter, by name or path.
    """

    checks: list[str] = field(default_factory=lambda: list(CHECKS))
    prompt: str = "rewrite_v1"
    journaled: ClassVar[bool] = False
    version: ClassVar[int] = 1  # of the checks: what was written by another is written again

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.checks) - set(CHECKS)):
            raise RecipeError(f"step {self.name}: no check {', '.join(unknown)}; there are {', '.join(CHECKS)}")
        self._prompt = load_prompt(self.prompt)

    def identity(self) -> Mapping[str, Any]:
        """The checks and the prompt's text."""
        return {"class": "Check", "version": self.version, "checks": self.checks, "prompt": self._prompt.label}

    def request(self, clip: Clip) -> Any:
        """The captions in hand, and what they were made of; None where there are none."""
        return {"captions": dict(clip.captions), "of": Sources.of(clip).as_json()} if clip.captions else None

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer]]:
        """The reasons, none for a good one."""
        for place, sample in enumerate(batch):
            yield place, Answer(check(sample.clip, self._prompt, self.checks))

    def apply(self, clip: Clip, value: list[str]) -> None:
        """Add the reasons to those that the clip has: an answer in a wrong form was refused when it was read."""
        clip.rejected = list(dict.fromkeys([*clip.rejected, *value]))


def check(clip: Clip, prompt: Prompt, checks: Iterable[str] = tuple(CHECKS)) -> list[str]:
    """All reasons to refuse the captions in hand."""
    sources, names = Sources.of(clip), list(checks)
    return [
        f"{name}: {kind} caption: {reason}"
        for kind, text in clip.captions.items()
        for name in names
        if (reason := CHECKS[name](Case(kind, text, sources, prompt))) is not None
    ]


def _within(quoted: str, text: str) -> bool:
    """Whether the words stand in the text in a row."""
    return f" {' '.join(words(quoted))} " in f" {' '.join(words(text))} "


def _runs(case: Case, size: int, theirs: frozenset[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Runs of words that the caption has of others and not of what is known of the clip."""
    found = [run for run in ngrams(case.words, size) if run in theirs]
    known = {run for text in case.sources.all for run in ngrams(words(text), size)} if found else ()
    return [run for run in found if run not in known]


@lru_cache(8)
def _runs_of_prompt(prompt: Prompt) -> frozenset[tuple[str, ...]]:
    return frozenset(ngrams(words(prompt.text), _PROMPT_RUN))


@lru_cache(8)
def _of_examples(prompt: Prompt) -> tuple[frozenset[tuple[str, ...]], list[frozenset[str]]]:
    """Of the texts in the answers of all examples, their runs of words, and what each is about."""
    texts = [str(text) for _, answer in prompt.examples for name, text in answer.items() if name != "id"]
    return frozenset(run for text in texts for run in ngrams(words(text), _EXAMPLE_RUN)), [
        stems(text) for text in texts
    ]
