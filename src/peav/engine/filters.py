"""Filters: what each measures of a clip is kept; whether the clip stays goes by a bar that can be moved afterwards."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import numpy as np

from peav.engine.clip import Answer, Clip, Sample
from peav.engine.stage import BAR, Stage
from peav.errors import RecipeError

RATE = 48000
BLOCK = 2400  # samples, 50 ms
LOUDEST = 5  # blocks: a quarter of a second is an event, a single block may be a click
QUIETEST = -120.0  # dB: of digital silence


@dataclass
class Filter(Stage):
    """Measures one number a clip, and leaves out clips by it. A subclass says `measure` and `reason`.

    The measure stands in `clip.measures` under the stage's name; None: there is nothing to measure, and the clip stays.
    """

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer | Exception]]:
        """Measure each clip."""
        for place, sample in enumerate(batch):
            yield place, Answer(self.measure(sample))

    def apply(self, clip: Clip, value: Any) -> None:
        """Keep the measure, and say why the clip is left out if it is."""
        clip.measures[self.name] = value
        if value is not None and (why := self.reason(value)) is not None:
            clip.filtered = f"{self.name}: {why}"

    @abstractmethod
    def measure(self, sample: Sample) -> Any:
        """What is measured, as JSON."""

    @abstractmethod
    def reason(self, value: Any) -> str | None:
        """Why a clip of this measure is left out; None: it stays."""


@dataclass
class Silence(Filter):
    """Leaves out clips whose loudest quarter of a second is below `min_db`, in dB of full scale."""

    name: str = "silence"
    min_db: float = field(default=-60.0, metadata=BAR)
    needs: ClassVar[frozenset[str]] = frozenset({"audio"})

    def measure(self, sample: Sample) -> float | None:
        """The level of the five loudest blocks of 50 ms."""
        assert sample.media is not None
        waveform = sample.media.waveform
        if waveform is None or not len(waveform):
            return None
        blocks = np.pad(waveform, (0, -len(waveform) % BLOCK)).reshape(-1, BLOCK)
        power = np.sort(np.square(blocks).mean(1, dtype=np.float64))[-LOUDEST:].mean()
        return round(max(QUIETEST, 10 * float(np.log10(power + 1e-12))), 2)

    def reason(self, value: float) -> str | None:
        """Too quiet."""
        return f"{value:.1f} dB, below {self.min_db:g} dB" if value < self.min_db else None


@dataclass
class Static(Filter):
    """Leaves out clips whose picture stands still: by how much it changes between 16 frames, in grays of 255."""

    name: str = "static"
    min_motion: float = field(default=0.5, metadata=BAR)
    needs: ClassVar[frozenset[str]] = frozenset({"video"})

    def measure(self, sample: Sample) -> float | None:
        """The mean over neighboring frames of the mean change of 8 x 8 pixels, which the noise of a codec is not."""
        assert sample.media is not None
        frames = sample.media.frames
        if frames is None or len(frames) < 2:
            return None
        side = frames.shape[1] // 8
        small = frames[:, : side * 8, : side * 8].reshape(len(frames), side, 8, side, 8, 3)
        small = small.mean((2, 4, 5), dtype=np.float32)  # (N, side, side)
        return round(float(np.abs(np.diff(small, axis=0)).mean()), 3)

    def reason(self, value: float) -> str | None:
        """Too still."""
        return f"motion {value:.2f}, below {self.min_motion:g}" if value < self.min_motion else None


@dataclass
class Duration(Filter):
    """Leaves out clips that are shorter or longer than this, in seconds."""

    name: str = "duration"
    min_seconds: float = 1.0
    max_seconds: float = 30.0
    journaled: ClassVar[bool] = False

    def measure(self, sample: Sample) -> float:
        """As the segmenter found it."""
        return float(sample.clip.measures["duration"])

    def reason(self, value: float) -> str | None:
        """Too short or too long."""
        if self.min_seconds <= value <= self.max_seconds:
            return None
        side, bar = ("below", self.min_seconds) if value < self.min_seconds else ("above", self.max_seconds)
        return f"{value:.2f} s, {side} {bar:g} s"


@dataclass
class License(Filter):
    """Leaves out clips whose license is not allowed.

    Attributes:
        allowed: licenses as in the manifest, in upper or lower case; `*` stands for anything, as in `cc-by-[1-4]*`.
        unlicensed: whether rows that say none stay.
    """

    name: str = "license"
    allowed: Sequence[str] = ()
    unlicensed: bool = False
    journaled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.allowed, str) or not self.allowed:
            raise RecipeError(
                f"{self.name}: no license is allowed: give `allowed` as a list, such as [CC0*, CC-BY-4.0]"
            )

    def measure(self, sample: Sample) -> str:
        """The license, empty where the row has none."""
        return (sample.clip.row.license or "").strip()

    def reason(self, value: str) -> str | None:
        """Not allowed."""
        if not value:
            return None if self.unlicensed else "the row has none"
        allowed = any(fnmatchcase(value.casefold(), one.casefold()) for one in self.allowed)
        return None if allowed else f"{value} is not allowed"
