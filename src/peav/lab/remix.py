"""Soundscapes drawn while training: each clip that is drawn sounds among others, told by one joined caption."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from peav.data.manifest import Row
from peav.data.transforms import SourceContext, SourceTransform
from peav.errors import MixingError
from peav.features.extract import ClipFeatures, FeatureExtractor
from peav.synth.mix import Mixer, Mixing, Sound, make_mixer, said, sounds_of, without_sources
from peav.synth.mix.loudness import Waveform
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
        """The rows with labeled sounds."""
        if self.how.duration > max_seconds:
            raise MixingError(
                f"remix: soundscapes of {self.how.duration:g} s do not fit into data.max_seconds, {max_seconds:g}; "
                "change one of them"
            )
        return mixable(rows)

    def start(self, rows: list[Row], context: SourceContext) -> list[Row]:
        """The rows in which something is heard, each with an event of no length for each of its labels: these are
        known before a soundscape is drawn, how long they sound is not.
        """
        self._remixer = Remixer(make_mixer(rows, (), context.failures, self.how), context.cache.extract)
        heard = [row for row in rows if self._remixer.takes(row)]
        return [
            replace(row, events=tuple(Event(sound.label, onset=0.0, offset=0.0) for sound in sounds_of([row])))
            for row in heard
        ]

    def draw(self, row: Row, rng: np.random.Generator, load: bool) -> tuple[Row, ClipFeatures | None]:
        """The clip in a soundscape of its own."""
        told, waveform = self._remixer(row, rng)
        return told, self._remixer.make.of_sound(waveform) if load else None


@dataclass
class WithoutMixed(SourceTransform):
    """The recordings that the mixtures of a `manifest` were made of are left out."""

    manifest: str

    def all_rows(self, rows: list[Row]) -> list[Row]:
        """The other rows."""
        return without_sources(rows, self.manifest)


class Remixer:
    """Puts a sound of a clip into a soundscape of its own, anew each time the clip is drawn.

    Args:
        mixer: draws the soundscapes; none longer than clips may be.
        make: computes their features.
    """

    def __init__(self, mixer: Mixer, make: FeatureExtractor) -> None:
        self.mixer, self.make = mixer, make
        self._sounds: dict[str, list[Sound]] = defaultdict(list)
        for sound in mixer.sounds:
            self._sounds[sound.id].append(sound)

    def takes(self, row: Row) -> bool:
        """Whether something is heard in a clip that the mixer can use."""
        return row.id in self._sounds

    def __call__(self, row: Row, rng: np.random.Generator) -> tuple[Row, Waveform]:
        """A row that tells what is heard now (audio caption, timed events), and (S,) samples."""
        choices = self._sounds[row.id]
        scape = self.mixer(rng, choices[rng.integers(len(choices))])
        captions = {"audio": [scape.caption]} if scape.caption else {}
        return replace(row, captions=captions, events=tuple(event for event, _ in scape.events)), scape.waveform


def mixable(rows: Sequence[Row]) -> list[Row]:
    """The rows with labeled sounds, told by these alone: what is seen or said in a clip is not so in a soundscape."""
    told = []
    for row in rows:
        if words := list(dict.fromkeys(said(sound) for sound in sounds_of([row]))):
            bare = replace(row, video_path=None, transcript=None, words=(), synthetic={}, plain=())
            told.append(replace(bare, captions={"audio": words}))
    return told
