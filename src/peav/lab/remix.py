"""Soundscapes drawn while training: each clip that is drawn sounds among others, told by one joined caption."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from peav.data.manifest import Row
from peav.features.cache import FeatureMaker
from peav.synth.mix.loudness import Waveform
from peav.synth.mix.mixer import Mixer, Sound, said, sounds_of


class Remixer:
    """Puts a sound of a clip into a soundscape of its own, anew each time the clip is drawn.

    Args:
        mixer: draws the soundscapes; none longer than clips may be.
        make: computes their features.
    """

    def __init__(self, mixer: Mixer, make: FeatureMaker) -> None:
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
