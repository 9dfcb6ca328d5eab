"""Soundscapes drawn while training: each clip that is drawn sounds among others, told by one joined caption."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np

from peav.data.manifest import Row
from peav.data.transforms import SourceContext, SourceTransform
from peav.errors import MixingError
from peav.features.extract import ClipFeatures
from peav.synth.mix import Mixing, Sound, make_mixer, said, sounds_of, without_sources
from peav.types import Event


@dataclass
class Remix(SourceTransform):
    """Clips with a label, or with events that sound alone, train: such a sound is heard in a soundscape drawn anew
    every time, with others of the source and one caption for all (`mixtures` as a source spend the time for it once).
    """

    how: Mixing = field(default_factory=Mixing)
    copies: int = 0

    fits = "sound and a label or events"
    needs_codec = True

    def __post_init__(self) -> None:
        if self.copies:
            raise ValueError("remix: a clip that is mixed stands for the clip itself; leave out copies")

    def train_rows(self, rows: list[Row], max_seconds: float) -> list[Row]:
        """The rows with labeled sounds, told by these alone: what is seen or said in a clip is not in a soundscape."""
        if self.how.duration > max_seconds:
            raise MixingError(
                f"remix: soundscapes of {self.how.duration:g} s do not fit into data.max_seconds, {max_seconds:g}; "
                "change one of them"
            )
        told = []
        for row in rows:
            if words := list(dict.fromkeys(said(sound) for sound in sounds_of([row]))):
                bare = replace(row, video_path=None, transcript=None, words=(), synthetic={}, plain=())
                told.append(replace(bare, captions={"audio": words}))
        return told

    def start(self, rows: list[Row], context: SourceContext) -> list[Row]:
        """The rows in which something is heard, each with an event of no length for each of its labels: these are
        known before a soundscape is drawn, how long they sound is not.
        """
        self._extract, self._mixer = context.cache.extract, make_mixer(rows, (), context.failures, self.how)
        self._sounds: dict[str, list[Sound]] = defaultdict(list)
        for sound in self._mixer.sounds:
            self._sounds[sound.id].append(sound)
        return [
            replace(row, events=tuple(Event(sound.label, onset=0.0, offset=0.0) for sound in sounds_of([row])))
            for row in rows
            if row.id in self._sounds
        ]

    def draw(self, row: Row, rng: np.random.Generator, load: bool) -> tuple[Row, ClipFeatures | None]:
        """One of the clip's sounds in a soundscape, told by an audio caption and timed events."""
        choices = self._sounds[row.id]
        scape = self._mixer(rng, choices[rng.integers(len(choices))])
        captions = {"audio": [scape.caption]} if scape.caption else {}
        told = replace(row, captions=captions, events=tuple(event for event, _ in scape.events))
        return told, self._extract.of_sound(scape.waveform) if load else None


@dataclass
class WithoutMixed(SourceTransform):
    """The recordings that the mixtures of a `manifest` were made of are left out."""

    manifest: str

    def all_rows(self, rows: list[Row]) -> list[Row]:
        """The other rows."""
        return without_sources(rows, self.manifest)
