"""Soundscapes drawn while training: each clip that is drawn sounds among others, told by one joined caption."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from peav.data.features import ClipFeatures, FeatureMaker
from peav.data.manifest import Row
from peav.data.mix.mixer import Mixer, Soundscape, sounds_of


class Remixer:
    """Puts a clip into a soundscape of its own, anew each time it is drawn.

    Args:
        mixer: draws the soundscapes; none longer than clips may be.
        make: computes their features.
    """

    def __init__(self, mixer: Mixer, make: FeatureMaker) -> None:
        self.mixer, self.make = mixer, make

    def __call__(self, row: Row, rng: np.random.Generator) -> tuple[Row, Remixed]:
        """A row that tells what is heard now (audio caption, timed events), and its sound; `row` has a label or events.

        What was seen in the clip or said in it is no longer told.
        """
        choices = sounds_of([row])
        scape = self.mixer(rng, choices[rng.integers(len(choices))])
        background = {} if scape.background is None else {"background": scape.background.label}
        told = replace(
            row,
            video_path=None,
            captions={"audio": [scape.caption]} if scape.caption else {},
            transcript=None,
            words=(),
            events=tuple(event for event, _ in scape.events),
            extra=background,
        )
        return told, Remixed(scape, self.make)


class Remixed:
    """A soundscape whose features are computed when they are asked for: by one of the processes that share a batch."""

    def __init__(self, scape: Soundscape, make: FeatureMaker) -> None:
        self.scape, self._make = scape, make

    @cached_property
    def features(self) -> ClipFeatures:
        """Latents, or the waveform for a codec that trains."""
        return self._make.of_sound(self.scape.waveform)
