"""What a kind of sounding object is: its words, its look, its sound, and when it acts."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from peav.synth.world.canvas import Canvas, Color
from peav.synth.world.sounds import Signal
from peav.synth.world.tables import read_table

FRAME = 0.08  # seconds: every time in the world is a whole number of video frames
Span = tuple[float, float]


@dataclass(frozen=True)
class Tune:
    """How one instance of a kind sounds: pitch and rate factors near 1, and its random numbers."""

    pitch: float
    rate: float
    rng: np.random.Generator


@dataclass(frozen=True)
class Pose:
    """What a look function sees: the moment, the object's pulses (its sounding spans) and its color."""

    time: float
    pulses: tuple[Span, ...]
    color: Color
    rate: float
    pitch: float
    seed: int

    @property
    def begun(self) -> int:
        """How many pulses have started."""
        return bisect_right([start for start, _ in self.pulses], self.time + 1e-6)

    @property
    def on(self) -> bool:
        """Whether it sounds now."""
        return self.begun > 0 and self.time < self.pulses[self.begun - 1][1] - 1e-6

    @property
    def busy(self) -> bool:
        """Whether it sounds now or is between two close pulses of one event."""
        if self.on:
            return True
        between = 0 < self.begun < len(self.pulses)
        return between and self.pulses[self.begun][0] - self.pulses[self.begun - 1][1] < EVENT_GAP

    @property
    def elapsed(self) -> float:
        """Seconds since the current pulse began; 0 when silent."""
        return self.time - self.pulses[self.begun - 1][0] if self.on else 0.0

    @property
    def progress(self) -> float:
        """0..1 through the current pulse; 0 when silent."""
        if not self.on:
            return 0.0
        start, end = self.pulses[self.begun - 1]
        return (self.time - start) / (end - start)

    @property
    def near(self) -> float:
        """1 at the moment of a hit, falling to 0 at 0.2 s before and after: for sticks, hands and feet."""
        return max([0.0, *(1 - abs(self.time - start) / 0.2 for start, _ in self.pulses)])

    def wave(self, per_second: float, shift: float = 0.0) -> float:
        """A sine that runs while it sounds and rests at 0."""
        return math.sin(2 * math.pi * (per_second * self.elapsed + shift)) if self.on else 0.0

    def noise(self, index: int = 0) -> float:
        """A number in 0..1 that is new at each frame."""
        frame = round(self.time / FRAME)
        return ((frame * 7919 + index * 104729 + self.seed * 31) * 2654435761 % 4294967296) / 4294967296

    def fixed(self, index: int) -> float:
        """A number in 0..1 that is the instance's own."""
        return ((index * 104729 + self.seed * 31 + 7) * 2654435761 % 4294967296) / 4294967296


EVENT_GAP = 0.5  # seconds of silence that part two events of one object

Look = Callable[[Canvas, Pose], None]
Sound = Callable[[int, Tune], Signal]
Pattern = Callable[[float, np.random.Generator], tuple[Span, ...]]


@dataclass(frozen=True)
class Kind:
    """One entry of the world's table: its words (`kinds.toml` says what they are for), look, sound and times."""

    name: str
    look: Look
    sound: Sound
    pattern: Pattern
    flies: bool
    tinted: bool
    label: str
    nouns: tuple[str, ...]
    moves: tuple[str, ...]
    acts: tuple[str, ...]
    heard: tuple[str, ...]


_WORDS = read_table("kinds")


def kind(name: str, look: Look, sound: Sound, pattern: Pattern, *, flies: bool = False, tinted: bool = True) -> Kind:
    """An entry with the words of `kinds.toml`."""
    label, *words = (_WORDS[name][key] for key in ("label", "nouns", "moves", "acts", "heard"))
    return Kind(name, look, sound, pattern, flies, tinted, label, *map(tuple, words))


def snap(time: float) -> float:
    """The nearest frame time."""
    return round(round(time / FRAME) * FRAME, 2)


def steady(shortest: float = 1.4, longest: float = 3.4) -> Pattern:
    """One long span."""

    def pattern(duration: float, rng: np.random.Generator) -> tuple[Span, ...]:
        length = rng.uniform(shortest, min(longest, duration - 0.2))
        start = rng.uniform(0.0, duration - length)
        return ((snap(start), snap(start + length)),)

    return pattern


def calls(length: Span, most: int = 3, gap: Span = (0.16, 0.9)) -> Pattern:
    """One to `most` separate calls."""

    def pattern(duration: float, rng: np.random.Generator) -> tuple[Span, ...]:
        count = int(rng.integers(1, most + 1))
        spans, time = [], rng.uniform(0.0, max(0.08, duration - count * (length[1] + gap[1] / 2)))
        each = rng.uniform(*length)
        for _ in range(count):
            start, end = snap(time), snap(time + each)
            if end > duration + 1e-6:
                break
            spans.append((start, end))
            time = end + rng.uniform(*gap)
        return tuple(spans) or ((0.08, snap(0.08 + each)),)

    return pattern


def hits(period: Span, count: tuple[int, int], length: float) -> Pattern:
    """Impacts at an even pace; each rings for `length` at most."""

    def pattern(duration: float, rng: np.random.Generator) -> tuple[Span, ...]:
        step = snap(rng.uniform(*period))
        fitting = max(1, int((duration - length - 0.24) / step) + 1)
        wanted = min(int(rng.integers(count[0], count[1] + 1)), fitting)
        start = rng.uniform(0.2, max(0.24, duration - length - (wanted - 1) * step))
        times = [snap(start + k * step) for k in range(wanted)]
        return tuple((time, min(snap(time + length), snap(time + step))) for time in times if time + length <= duration)

    return pattern


def once(earliest: float, length: float) -> Pattern:
    """One moment that changes the object for good."""

    def pattern(duration: float, rng: np.random.Generator) -> tuple[Span, ...]:
        start = snap(rng.uniform(earliest, duration - length - 0.1))
        return ((start, snap(start + length)),)

    return pattern
