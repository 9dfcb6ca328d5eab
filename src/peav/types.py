"""The nouns that every part of peav shares: one name for one idea. Imports nothing heavy, so that any module may."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import numpy as np

    from peav.errors import MediaError

Modality = Literal["audio", "video", "audio_video"]
"""Sound, pictures, or both: of a clip, of a space to embed into, of what a caption tells."""
MODALITIES: tuple[Modality, ...] = get_args(Modality)


@cache
def modalities(audio: bool, video: bool) -> tuple[Modality, ...]:
    """Those of a clip with these streams: both, and with both also the two together."""
    there = (audio, video, audio and video)
    return tuple(modality for modality, has in zip(MODALITIES, there, strict=True) if has)


FRAME = 0.04
"""Seconds of one frame of sound: 1920 samples at 48 kHz."""
POSTPROCESSING = "postprocessing.json"
"""The file that says how frame scores become events: in a folder of results, and in a PE-A-Frame checkpoint."""


@dataclass(frozen=True)
class Event:
    """A sound between two times.

    Attributes:
        label: what sounds.
        onset, offset: in seconds from the start of the recording.
        score: the highest probability that a model gave it within the event; 1 where a person marked it.
        texts: other words for the label.
    """

    label: str
    onset: float
    offset: float
    score: float = 1.0
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class TimedCaption:
    """What is said of a recording between two times, in seconds from its start."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Word:
    """A spoken word and its time, in seconds from the start of what it is spoken in."""

    word: str
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class WindowEmbedding:
    """One window of one input, embedded.

    Attributes:
        index: place of the input in the list that was given.
        source: its path, or its kind and place for anything that has none.
        start, end: of the window, in seconds from the start of the input.
        duration: of the whole input, in seconds.
        modality: the streams that the window holds.
        embeddings: space -> (D,) float32.
    """

    index: int
    source: str
    start: float
    end: float
    duration: float
    modality: Modality
    embeddings: dict[str, np.ndarray]

    @property
    def embedding(self) -> np.ndarray:
        """(D,) float32 in the space of the window's own modality, or in the only one that was asked for."""
        if self.modality in self.embeddings or len(self.embeddings) != 1:
            return self.embeddings[self.modality]
        return next(iter(self.embeddings.values()))


@dataclass(frozen=True)
class DecodeFailure:
    """An input that could not be decoded, in the place where its windows would have been."""

    index: int
    source: str
    error: MediaError
