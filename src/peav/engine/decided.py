"""The stages that write on a clip what the run as a whole has decided, and what a step tells the run of its clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from peav.engine.clip import Answer, Clip, Sample
from peav.engine.duplicates import duplicate_summary
from peav.engine.stage import Stage
from peav.engine.survey import calibrate, caption_counts, caption_key, sample


def summary_of(step: str, clips: Sequence[Clip], count: int) -> dict[str, Any]:
    """What a step has found in a partition that the run has to know; `count` clips say what low and high are."""
    if step == "caption":
        return {"scores": sample(clips, count), "duplicates": duplicate_summary(clips)}
    return {"captions": caption_counts([clip for clip in clips if clip.open and not clip.fallback])}


@dataclass
class Decided(Stage):
    """Writes the confidence of each weak caption, and leaves out a clip that repeats another."""

    fit: Mapping[str, Any]
    duplicates: Mapping[str, str]
    journaled: ClassVar[bool] = False

    def __call__(self, batch: Sequence[Sample]) -> Iterator[tuple[int, Answer | Exception]]:
        """The clip that each repeats, if any."""
        for place, one in enumerate(batch):
            yield place, Answer(self.duplicates.get(one.clip.id))

    def apply(self, clip: Clip, value: Any) -> None:
        """Write it."""
        if value is not None:
            clip.filtered = f"duplicate: of {value}"
        else:
            calibrate(clip, self.fit)


@dataclass
class Repeated(Stage):
    """Refuses a rewrite that stands for too many clips of the run; the fallback comes after it."""

    captions: frozenset[str]
    journaled: ClassVar[bool] = False

    def __call__(self, batch: Sequence[Sample]) -> Iterator[tuple[int, Answer | Exception]]:
        """The kinds whose caption is one of them."""
        for place, one in enumerate(batch):
            texts = {} if one.clip.fallback else one.clip.captions
            yield (
                place,
                Answer([kind for kind, text in texts.items() if f"{kind} {caption_key(text)}" in self.captions]),
            )

    def apply(self, clip: Clip, value: Any) -> None:
        """Say why."""
        clip.rejected += [f"repeated: its {kind} caption stands for too many clips" for kind in value]
