"""A clip on its way through the engine, and what the steps have said of it so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from peav.data.manifest import Row
from peav.features.decode import Decoded
from peav.types import Modality

Confidence = Literal["low", "medium", "high"]


@dataclass(frozen=True)
class WeakCaption:
    """What one captioner says of a clip.

    Attributes:
        text: the caption; empty where the captioner has nothing to say, which is no failure.
        kind: what it describes: the sound, the picture or both.
        model: name and version of what wrote it.
        prompt: name and sha256 of the prompt, `NAME@HASH`; None where there is none.
        score: similarity of the text to the clip, None before scoring.
        confidence: the score's third among those of the run, None before calibration.
    """

    text: str
    kind: Modality
    model: str
    prompt: str | None = None
    score: float | None = None
    confidence: Confidence | None = None


@dataclass
class Clip:
    """One clip: a manifest's row, or a segment of one.

    Attributes:
        id: the row's, or that of a segment: `ID#START-END`.
        row: with `start` and `end` of the segment; its own captions are never read as weak ones.
        weak: by the captioner's name, in the recipe's order.
        captions: the final ones, by kind.
        transcript: what is spoken; None: nobody speaks, or nobody looked.
        transcript_by: the model that wrote it.
        measures: by name, what filters measured (decibels, motion, hashes, similarities).
        provenance: by caption's kind, what wrote the final one: `NAME@HASH of a prompt, model`, or `template`.
        rejected: why the rewrite in hand was refused, one reason a failed check.
        fallback: the final captions are the template's, since the rewrites were refused.
        filtered: why the clip is left out.
        failed: stage, type of the error and what it says.
    """

    id: str
    row: Row
    weak: dict[str, WeakCaption] = field(default_factory=dict)
    captions: dict[Modality, str] = field(default_factory=dict)
    transcript: str | None = None
    transcript_by: str | None = None
    measures: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)
    fallback: bool = False
    filtered: str | None = None
    failed: tuple[str, str, str] | None = None

    @property
    def open(self) -> bool:
        """Whether later steps have to do with it."""
        return self.filtered is None and self.failed is None


@dataclass(frozen=True, eq=False)
class Sample:
    """A clip with its decoded media, as a stage is given it.

    `media` has a waveform (S,) float32 at 48 kHz mono and 16 frames (16, 336, 336, 3) uint8, each None where the file
    lacks the stream; it is None for stages that need no media.
    """

    clip: Clip
    media: Decoded | None = None


@dataclass(frozen=True)
class Answer:
    """What a stage found out about one clip.

    Attributes:
        value: anything that JSON can hold; it is all that later runs have of the answer.
        prompt_tokens, output_tokens: of a language model, for the bill.
        attempts: requests that it took.
    """

    value: Any
    prompt_tokens: int = 0
    output_tokens: int = 0
    attempts: int = 1
