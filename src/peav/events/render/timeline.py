"""A picture of what was heard when: the waveform above, a band for every label below."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from peav.events.postprocess import Postprocessing
from peav.events.types import FrameScores
from peav.media import Source, Waveform, iter_audio
from peav.types import Event

COLORS = ("#c2512b", "#2b6fa8", "#3c8a57", "#8a5aa8", "#b3842a", "#2f8f93", "#b24a73", "#6b7280")
WIDTH, WAVE, BAND, GAP, MARGIN, AXIS = 1600, 130, 44, 10, 28, 34
PAPER, INK, SOFT, LINE, TINT = "#ffffff", "#1c1b19", "#6d685f", "#e6e1d7", 0.86
SMOOTH = 2  # drawn so many times larger, then reduced: Pillow's own edges are jagged
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)


@dataclass(frozen=True, eq=False)
class Timeline:
    """What a timeline shows of one recording.

    Attributes:
        title: above it, usually the file's name.
        scores: the probabilities, and with them labels and duration.
        events: what was found.
        wave: (columns,) float, the largest sample of each stretch of the recording, 0 to 1.
        how: the scores became events; its thresholds are drawn.
    """

    title: str
    scores: FrameScores
    events: Sequence[Event]
    wave: np.ndarray
    how: Postprocessing = field(default_factory=Postprocessing)

    def of(self, label: str) -> list[Event]:
        """The events of one label."""
        return [event for event in self.events if event.label == label]


def loudness(source: Source, scores: FrameScores) -> np.ndarray:
    """(columns,) the largest sample in each stretch of a file, scaled so that the loudest is 1; in bounded memory.

    There are as many columns as frames, and at least those of a picture.
    """
    blocks = (block for _, block in iter_audio(source, 30.0, sampling_rate=16000))
    return wave_peaks(blocks, scores.duration, 16000, max(WIDTH, scores.probabilities.shape[1]))


def wave_peaks(blocks: Iterable[Waveform], duration: float, rate: int, columns: int = WIDTH) -> np.ndarray:
    """The same for sound that comes in blocks of samples."""
    peaks, at = np.zeros(columns), 0
    for block in blocks:
        places = (np.arange(at, at + len(block)) * (columns / max(duration * rate, 1))).astype(int)
        np.maximum.at(peaks, np.minimum(places, columns - 1), np.abs(block))
        at += len(block)
    return peaks / max(float(peaks.max()), 1e-4)


def stretched(values: np.ndarray, columns: int) -> np.ndarray:
    """(T,) to (columns,): the highest of the values that fall into each column, repeated where there are fewer."""
    if not len(values):
        return np.zeros(columns)
    edges = np.arange(columns + 1) * len(values) / columns
    starts, stops = np.floor(edges[:-1]).astype(int), np.ceil(edges[1:]).astype(int)
    return np.array([values[a:b].max() for a, b in zip(starts, np.minimum(stops, len(values)), strict=True)])


def tick_step(duration: float, most: int) -> float:
    """Seconds between the ticks of an axis with at most so many of them."""
    return next((step for step in TICKS if duration / step <= most), math.ceil(duration / most / 3600) * 3600.0)


def tick_label(seconds: float, step: float) -> str:
    """0:05, 1:02:30, or 0:00.2 where ticks are closer than a second."""
    decimals = 1 if step < 1 else 0
    minutes, rest = divmod(round(seconds, decimals), 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:04.1f}" if decimals else f"{int(rest):02d}"
    return f"{hours}:{minutes:02d}:{text}" if hours else f"{minutes}:{text}"


def picture(timeline: Timeline) -> Image.Image:
    """Draw a timeline, 1600 pixels wide and as high as the labels need."""
    return _Sheet(timeline).draw()


class _Sheet:
    """One drawing, in units of final pixels times `SMOOTH`."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.labels = timeline.scores.labels
        self.font, self.small = (ImageFont.load_default(size * SMOOTH) for size in (17, 13))
        self.names = [self._cut(" ".join(label.split()), 260) for label in self.labels]
        widest = max(self.font.getlength(name) for name in self.names) / SMOOTH
        self.left = MARGIN + int(widest) + 20
        self.right = WIDTH - MARGIN
        self.top = MARGIN + 34
        height = self.top + WAVE + len(self.labels) * (BAND + GAP) + GAP + AXIS + 8
        self.image = Image.new("RGB", (WIDTH * SMOOTH, height * SMOOTH), PAPER)
        self.pen = ImageDraw.Draw(self.image)

    def draw(self) -> Image.Image:
        self._text((MARGIN, MARGIN), self._cut(self.timeline.title, WIDTH - 2 * MARGIN), INK, "lm")
        self._axis()
        self._wave()
        for row, label in enumerate(self.labels):
            self._band(row, label)
        return self.image.reduce(SMOOTH)

    def _axis(self) -> None:
        duration = self.timeline.scores.duration
        step = tick_step(duration, 14)
        bottom = self.top + WAVE + len(self.labels) * (BAND + GAP) + GAP
        for tick in range(int(duration / step + 1e-6) + 1):
            x = self._x(tick * step)
            self._line([(x, self.top), (x, bottom)], LINE)
            self._text((x, bottom + 14), tick_label(tick * step, step), SOFT, "mm", self.small)

    def _wave(self) -> None:
        middle, half = self.top + WAVE / 2, WAVE / 2 - 8
        xs = np.linspace(self.left, self.right, WIDTH)
        wave = stretched(self.timeline.wave, WIDTH)
        upper = [(x, middle - 0.5 - half * peak) for x, peak in zip(xs, wave, strict=True)]
        lower = [(x, 2 * middle - y) for x, y in reversed(upper)]
        self._polygon([*upper, *lower], "#4b5563")

    def _band(self, row: int, label: str) -> None:
        color = COLORS[row % len(COLORS)]
        top = self.top + WAVE + GAP + row * (BAND + GAP)
        bottom = top + BAND
        self._text((self.left - 14, top + BAND / 2), self.names[row], INK, "rm")
        self._rectangle((self.left, top, self.right, bottom), "#faf8f4")
        for event in self.timeline.of(label):
            self._rectangle((self._x(event.onset), top, self._x(event.offset), bottom), tint(color, TINT))
        xs = np.linspace(self.left, self.right, WIDTH)
        highest = stretched(self.timeline.scores.row(label), WIDTH)
        curve = [(x, bottom - BAND * p) for x, p in zip(xs, highest, strict=True)]
        self._polygon([(self.left, bottom), *curve, (self.right, bottom)], tint(color, 0.5))
        threshold = bottom - BAND * self.timeline.how.threshold_of(label)
        self._line([(self.left, threshold), (self.right, threshold)], tint(color, 0.3))
        for event in self.timeline.of(label):
            stop = max(self._x(event.offset), self._x(event.onset) + 2)
            self._rectangle((self._x(event.onset), bottom - 4, stop, bottom), color)

    def _x(self, seconds: float) -> float:
        return self.left + (self.right - self.left) * seconds / max(self.timeline.scores.duration, 1e-9)

    def _cut(self, text: str, width: float) -> str:
        """The text, or as much of it as fits."""
        if self.font.getlength(text) <= width * SMOOTH:
            return text
        while text and self.font.getlength(text + "...") > width * SMOOTH:
            text = text[:-1]
        return text + "..."

    def _text(self, place: tuple[float, float], text: str, color: str, anchor: str, font: object = None) -> None:
        self.pen.text((place[0] * SMOOTH, place[1] * SMOOTH), text, color, font or self.font, anchor)  # type: ignore[arg-type]

    def _line(self, points: Sequence[tuple[float, float]], color: str) -> None:
        self.pen.line([(x * SMOOTH, y * SMOOTH) for x, y in points], color, SMOOTH)

    def _polygon(self, points: Sequence[tuple[float, float]], color: str) -> None:
        self.pen.polygon([(x * SMOOTH, y * SMOOTH) for x, y in points], color)

    def _rectangle(self, box: tuple[float, float, float, float], color: str) -> None:
        self.pen.rectangle([side * SMOOTH for side in box], color)


def tint(color: str, share: float) -> str:
    """A color mixed with `share` of white."""
    parts = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)
