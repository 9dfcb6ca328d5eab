"""Captioners that know all of a clip of the world and err at known rates, and clips that the engine captioned by them.

What a captioner's mistakes cost, and what is won by joining two of them, can be told only where the truth is known.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from peav.data.manifest import Row
from peav.data.places import Place, PlaceContext, read_clips
from peav.engine.clip import Answer, Clip, Sample, WeakCaption
from peav.engine.recipe import read_recipe
from peav.engine.run import caption
from peav.engine.stage import Stage
from peav.engine.words import words
from peav.engine.work import STEPS, Progress, Step
from peav.errors import ManifestError, RecipeError
from peav.synth.world.captions import article
from peav.synth.world.kinds import KINDS
from peav.synth.world.place import World

Stream = Literal["audio", "video"]
STREAMS: tuple[Stream, ...] = ("audio", "video")
PERSON = "person"
_PHRASES: dict[Stream, dict[str, tuple[str, ...]]] = {
    "audio": {name: kind.heard for name, kind in KINDS.items()} | {PERSON: ("a person speaking",)},
    "video": {name: tuple(map(article, kind.nouns)) for name, kind in KINDS.items()} | {PERSON: ("a person",)},
}


@dataclass
class WorldCaptioner(Stage):
    """Lists what is heard or seen in a clip of the world, short of details, with mistakes.

    Of each thing, and of who speaks, it is drawn whether it is left out or taken for another one, and in which of its
    words it is named. The draws depend on the clip's id, `seed` and `kind` alone, so that captioners of different seeds
    err independently. One that has left all out says "something".

    Attributes:
        kind: the stream that it describes; clips without it have no caption.
        seed: of its draws.
        wrong, missing: shares of things.
    """

    kind: Stream = "audio"
    seed: int = 0
    wrong: float = 0.0
    missing: float = 0.0
    journaled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if min(self.wrong, self.missing) < 0 or self.wrong + self.missing > 1:
            raise RecipeError(f"{self.name}: wrong and missing are shares of things, together at most 1")

    def request(self, clip: Clip) -> Any:
        """What is there; None without the stream."""
        return sorted(things(clip.row, self.kind)) if clip.row.captions.get(self.kind) else None

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer | Exception]]:
        """The caption of each clip."""
        for place, sample in enumerate(batch):
            yield place, Answer(self._caption(sample.clip.row))

    def apply(self, clip: Clip, value: Any) -> None:
        """Keep it as a weak caption."""
        clip.weak[self.name] = WeakCaption(value, self.kind, f"world captioner, seed {self.seed}")

    def _caption(self, row: Row) -> str:
        rng = np.random.default_rng(list(hashlib.sha256(f"{row.id} {self.seed} {self.kind}".encode()).digest()[:8]))
        there = things(row, self.kind)
        absent = sorted(KINDS.keys() - there)
        said = []
        for name in sorted(there):
            chance, other = rng.random(), absent[rng.integers(len(absent))]
            phrases = _PHRASES[self.kind][other if chance < self.wrong else name]
            phrase = phrases[rng.integers(len(phrases))]
            if not self.wrong <= chance < self.wrong + self.missing:
                said.append(phrase)
        return " and ".join(said[place] for place in rng.permutation(len(said))) or "something"


def things(row: Row, stream: Stream) -> frozenset[str]:
    """The names of what is heard or seen in a clip of the world, `person` among them."""
    if "kinds" not in row.extra:
        raise ManifestError(f"{row.id}: is no clip of the world; caption a manifest that `peav world` made")
    if stream == "audio":
        heard = {event.label for event in row.events}
        found = {name for name in row.extra["kinds"] if KINDS[name].label in heard}
    else:
        # A thing out of sight has the same row but for its captions.
        seen = " | ".join(" ".join(words(text)) for text in row.by_people().captions.get("video", ()))
        found = {name for name in row.extra["kinds"] if any(f" {noun} " in f" {seen} " for noun in KINDS[name].nouns)}
    return frozenset(found | ({PERSON} if row.extra.get("voice") else set()))


def named(text: str, stream: Stream) -> frozenset[str]:
    """The names of the things that a caption speaks of, one of a `WorldCaptioner` or what is made of several."""
    every, pattern = _named(stream)
    return frozenset(every[found] for found in pattern.findall(text.lower()))


@cache
def _named(stream: Stream) -> tuple[dict[str, str], re.Pattern[str]]:
    every = {phrase: name for name, phrases in _PHRASES[stream].items() for phrase in phrases}
    longest_first = sorted(every, key=len, reverse=True)
    return every, re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b")


@dataclass(frozen=True)
class Captioned(Place):
    """Clips of the world, those that train with the captions that the engine writes of them; made where they are not
    there yet.

    Attributes:
        world: as of the place `world`.
        recipe: of the engine.
        folder: of the engine's run.
        earlier: the folder of a run of the engine over the same clips, which this one goes on from (its stage 2).
    """

    world: World
    recipe: str
    folder: str
    earlier: str | None = None

    def rows(self, context: PlaceContext) -> list[Row]:
        """The rows of all splits."""
        rows = self.world.rows(context)
        context.stage(f"captions by {Path(self.recipe).stem}", len(STEPS) * self.world.train)
        done = 0.0

        def progress(_step: Step, more: Progress, _total: int) -> None:
            nonlocal done
            done += more.rows
            context.advance(round(done))

        # Its manifest begins with the clips that train.
        manifest, recipe = self.earlier or f"{self.world.folder}/manifest.jsonl", read_recipe(self.recipe)
        caption(manifest, self.folder, recipe, limit=self.world.train, workers=context.workers, progress=progress)
        return [*read_clips(self.folder), *(row for row in rows if not row.trains)]
