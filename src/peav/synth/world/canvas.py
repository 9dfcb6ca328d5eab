"""Drawing in an object's own coordinates: x right, y down, both -1..1 over the object's square."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import ImageDraw

Color = tuple[int, int, int]
Point = tuple[float, float]

COLORS: dict[str, Color] = {
    "red": (226, 32, 38),
    "orange": (248, 138, 20),
    "yellow": (250, 222, 40),
    "green": (40, 178, 60),
    "blue": (36, 92, 232),
    "purple": (140, 50, 190),
    "pink": (250, 120, 190),
    "white": (246, 246, 246),
}
INK: Color = (24, 22, 30)
STEEL: Color = (150, 158, 170)
WOOD: Color = (150, 96, 50)
CREAM: Color = (250, 240, 214)
GLOW: Color = (255, 244, 120)


def shade(color: Color, factor: float) -> Color:
    """Darker below 1, towards white above 1."""
    if factor <= 1:
        return (int(color[0] * factor), int(color[1] * factor), int(color[2] * factor))
    return mix(color, (255, 255, 255), factor - 1)


def mix(one: Color, other: Color, share: float) -> Color:
    """`share` of the other color in the one."""
    red, green, blue = (int(a + (b - a) * min(share, 1.0)) for a, b in zip(one, other, strict=True))
    return (red, green, blue)


def turned(points: Sequence[Point], degrees: float, pivot: Point = (0.0, 0.0)) -> list[Point]:
    """Points turned clockwise about a pivot."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    px, py = pivot
    return [(px + (x - px) * cos - (y - py) * sin, py + (x - px) * sin + (y - py) * cos) for x, y in points]


@dataclass(frozen=True)
class Canvas:
    """A window on the frame: center and half size in pixels."""

    draw: ImageDraw.ImageDraw
    x: float
    y: float
    half: float

    def moved(self, dx: float, dy: float) -> Canvas:
        """The same canvas shifted in its own units."""
        return Canvas(self.draw, self.x + dx * self.half, self.y + dy * self.half, self.half)

    def _at(self, points: Sequence[Point]) -> list[Point]:
        return [(self.x + x * self.half, self.y + y * self.half) for x, y in points]

    def oval(self, x0: float, y0: float, x1: float, y1: float, fill: Color | None, edge: Color | None = INK) -> None:
        """Ellipse in a box."""
        self.draw.ellipse(self._box(x0, y0, x1, y1), fill, edge)

    def disc(self, x: float, y: float, radius: float, fill: Color | None, edge: Color | None = INK) -> None:
        """Circle about a point."""
        self.oval(x - radius, y - radius, x + radius, y + radius, fill, edge)

    def rect(self, x0: float, y0: float, x1: float, y1: float, fill: Color, edge: Color | None = INK) -> None:
        """Upright rectangle."""
        self.draw.rectangle(self._box(x0, y0, x1, y1), fill, edge)

    def poly(self, points: Sequence[Point], fill: Color, edge: Color | None = INK) -> None:
        """Closed polygon."""
        self.draw.polygon(self._at(points), fill, edge)

    def line(self, points: Sequence[Point], fill: Color, width: float = 0.08) -> None:
        """Polyline, width in the canvas's units."""
        self.draw.line(self._at(points), fill, max(1, round(width * self.half)), joint="curve")

    def arc(
        self, x: float, y: float, radius: float, start: float, end: float, fill: Color, width: float = 0.08
    ) -> None:
        """Part of a circle, degrees clockwise from the right."""
        box = self._box(x - radius, y - radius, x + radius, y + radius)
        self.draw.arc(box, start, end, fill, max(1, round(width * self.half)))

    def pie(self, x: float, y: float, radius: float, start: float, end: float, fill: Color) -> None:
        """A slice of a disc."""
        self.draw.pieslice(self._box(x - radius, y - radius, x + radius, y + radius), start, end, fill, INK)

    def _box(self, x0: float, y0: float, x1: float, y1: float) -> list[Point]:
        return self._at([(min(x0, x1), min(y0, y1)), (max(x0, x1), max(y0, y1))])
