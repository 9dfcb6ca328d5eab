"""Places: what is painted behind the objects, and the quiet ambience some of them have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from peav.synth.world.canvas import Color, mix
from peav.synth.world.sounds import Signal, edges, grains, noise, pulse, tone
from peav.synth.world.tables import read_table

SIZE = 224  # the painted square; the camera sees 160 of it
Paint = Callable[[ImageDraw.ImageDraw, np.random.Generator], None]
Ambience = Callable[[int, np.random.Generator], Signal]


@dataclass(frozen=True)
class Backdrop:
    """A place: phrases for where it is, how it is painted, its ambience and how that is called."""

    name: str
    places: tuple[str, ...]
    paint: Paint
    ambience: Ambience | None = None
    hums: tuple[str, ...] = ()


def painted(backdrop: Backdrop, rng: np.random.Generator) -> Image.Image:
    """The place as a SIZE x SIZE picture."""
    image = Image.new("RGB", (SIZE, SIZE))
    backdrop.paint(ImageDraw.Draw(image), rng)
    return image


def _bands(draw: ImageDraw.ImageDraw, top: Color, bottom: Color, start: int = 0, end: int = SIZE) -> None:
    for y in range(start, end, 4):
        draw.rectangle((0, y, SIZE, min(y + 3, end)), mix(top, bottom, (y - start) / (end - start)))


def _wall(tint: Color, floor: Color) -> Paint:
    def paint(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
        draw.rectangle((0, 0, SIZE, 168), tint)
        draw.rectangle((0, 168, SIZE, SIZE), floor)
        x = int(rng.integers(10, 190))
        draw.rectangle((x, 12, x + 26, 32), floor, (40, 40, 40))

    return paint


def _sky(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    _bands(draw, (90, 170, 245), (205, 235, 255))
    for x, y in rng.integers(0, SIZE, (7, 2)):
        for shift in (0, 14, 28):
            draw.ellipse((x + shift - 14, y - 8 - shift % 9, x + shift + 14, y + 10), (250, 252, 255))


def _night(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    _bands(draw, (8, 10, 40), (30, 32, 80))
    for x, y in rng.integers(0, SIZE, (60, 2)):
        draw.rectangle((x, y, x + 1, y + 1), (255, 255, 220))
    x = int(rng.integers(40, 170))
    draw.ellipse((x, 36, x + 30, 66), (245, 240, 200))
    draw.rectangle((0, 190, SIZE, SIZE), (14, 30, 24))


def _street(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    draw.rectangle((0, 0, SIZE, SIZE), (176, 196, 210))
    x = 0
    while x < SIZE:
        width, top = int(rng.integers(34, 60)), int(rng.integers(20, 70))
        level = int(rng.integers(90, 150))
        draw.rectangle((x, top, x + width, 160), (level, level - 15, level - 25))
        for wx in range(x + 6, x + width - 8, 14):
            for wy in range(top + 8, 150, 20):
                draw.rectangle((wx, wy, wx + 7, wy + 10), (225, 225, 190))
        x += width
    draw.rectangle((0, 160, SIZE, SIZE), (70, 72, 78))
    for x in range(0, SIZE, 40):
        draw.rectangle((x, 188, x + 22, 193), (240, 240, 240))


def _kitchen(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    draw.rectangle((0, 0, SIZE, SIZE), (238, 232, 214))
    for x in range(0, SIZE, 22):
        draw.line((x, 0, x, 150), (196, 190, 176))
    for y in range(0, 150, 22):
        draw.line((0, y, SIZE, y), (196, 190, 176))
    draw.rectangle((0, 150, SIZE, 162), (120, 84, 60))
    draw.rectangle((0, 162, SIZE, SIZE), (176, 140, 104))
    for x in range(int(rng.integers(0, 20)), SIZE, 52):
        draw.rectangle((x, 168, x + 44, SIZE), (160, 122, 88), (90, 60, 40))


def _forest(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    _bands(draw, (130, 170, 130), (60, 100, 60))
    for x in range(int(rng.integers(0, 20)), SIZE, 30):
        top = int(rng.integers(10, 60))
        draw.rectangle((x + 7, top + 50, x + 15, 180), (84, 58, 36))
        for layer in range(3):
            y = top + 28 * layer
            draw.polygon([(x + 11, y), (x - 10, y + 50), (x + 32, y + 50)], (24, 80 + 12 * layer, 44))
    draw.rectangle((0, 178, SIZE, SIZE), (60, 84, 40))


def _sea(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    _bands(draw, (150, 205, 240), (220, 240, 250), 0, 96)
    _bands(draw, (20, 90, 160), (50, 150, 190), 96, 168)
    for x, y in rng.integers(0, (SIZE, 64), (40, 2)):
        draw.line((x, 100 + y, x + 12, 100 + y), (200, 230, 245))
    draw.rectangle((0, 168, SIZE, SIZE), (230, 208, 150))


def _grid(draw: ImageDraw.ImageDraw, _rng: np.random.Generator) -> None:
    draw.rectangle((0, 0, SIZE, SIZE), (40, 30, 60))
    draw.rectangle((0, 110, SIZE, SIZE), (24, 16, 40))
    for x in range(-200, 424, 34):
        draw.line((112 + (x - 112) * 0.25, 110, x, SIZE), (0, 220, 220), 2)
    for y in (112, 122, 138, 162, 196):
        draw.line((0, y, SIZE, y), (0, 220, 220), 2)


def _desert(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    _bands(draw, (240, 190, 120), (250, 226, 170), 0, 120)
    draw.ellipse((-60, 100, 150, 260), (214, 160, 90))
    draw.ellipse((80, 110, 320, 280), (226, 174, 104))
    draw.rectangle((0, 180, SIZE, SIZE), (206, 150, 84))
    for x in rng.integers(10, 210, 3):
        draw.rectangle((x, 100, x + 8, 150), (60, 110, 60))
        draw.rectangle((x - 10, 112, x, 118), (60, 110, 60))


def _snow(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    _bands(draw, (150, 165, 190), (200, 210, 225), 0, 150)
    for x in range(-30, SIZE, 70):
        peak = int(rng.integers(20, 60))
        draw.polygon([(x, 150), (x + 50, peak), (x + 100, 150)], (110, 120, 145))
        draw.polygon([(x + 32, peak + 40), (x + 50, peak), (x + 68, peak + 40)], (250, 250, 255))
    draw.rectangle((0, 150, SIZE, SIZE), (228, 234, 244))


def _stage(draw: ImageDraw.ImageDraw, _rng: np.random.Generator) -> None:
    for x in range(0, SIZE, 14):
        level = 90 + 40 * (x // 14 % 2)
        draw.rectangle((x, 0, x + 13, 176), (level, 14, 34))
    draw.rectangle((0, 0, SIZE, 26), (70, 8, 24))
    draw.rectangle((0, 176, SIZE, SIZE), (130, 90, 56))
    for y in range(176, SIZE, 12):
        draw.line((0, y, SIZE, y), (96, 64, 40))


def _library(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    draw.rectangle((0, 0, SIZE, SIZE), (84, 56, 34))
    for shelf in range(4):
        x = 2
        while x < SIZE:
            width, height = int(rng.integers(6, 14)), int(rng.integers(26, 38))
            tint = tuple(int(v) for v in rng.integers(60, 150, 3))
            draw.rectangle((x, 44 + 46 * shelf - height, x + width - 2, 44 + 46 * shelf), tint)
            x += width
        draw.rectangle((0, 44 + 46 * shelf, SIZE, 50 + 46 * shelf), (60, 38, 22))


def _traffic(n: int, rng: np.random.Generator) -> Signal:
    return noise(n, rng, 50, 350, 3)


def _fridge(n: int, rng: np.random.Generator) -> Signal:
    return tone(n, 100.0 * rng.uniform(0.95, 1.05), (1, 0.7, 0.4, 0.3, 0.2))


def _leaves(n: int, rng: np.random.Generator) -> Signal:
    return noise(n, rng, 3000, 7000, 2) * (0.4 + 0.6 * pulse(n, rng.uniform(0.3, 0.6), 1.0))


def _crickets(n: int, rng: np.random.Generator) -> Signal:
    gate = pulse(n, 28, 1.0) * (pulse(n, rng.uniform(1.5, 2.2), 1.0) > 0.4)
    return tone(n, 4600.0 * rng.uniform(0.95, 1.05)) * gate


def _swash(n: int, rng: np.random.Generator) -> Signal:
    return noise(n, rng, 400, 3000, 5) * (0.2 + 0.8 * pulse(n, rng.uniform(0.25, 0.4), 1.0))


def _machine_hum(n: int, rng: np.random.Generator) -> Signal:
    return tone(n, 55.0 * rng.uniform(0.9, 1.1), (1, 0, 0.6, 0, 0.5, 0, 0.4)) * edges(n)


def _murmur(n: int, rng: np.random.Generator) -> Signal:
    return noise(n, rng, 250, 900, 3) * (0.5 + grains(n, rng, 12, 0.2, 2, 9) * 0.2)


_WORDS = read_table("backdrops")


def _backdrop(name: str, paint: Paint, ambience: Ambience | None = None) -> Backdrop:
    """A place with the words of `backdrops.toml`."""
    words = _WORDS[name]
    return Backdrop(name, tuple(words["places"]), paint, ambience, tuple(words.get("hums", ())))


BACKDROPS: tuple[Backdrop, ...] = (
    _backdrop("grey wall", _wall((150, 150, 154), (96, 92, 90))),
    _backdrop("beige wall", _wall((226, 206, 172), (150, 120, 90))),
    _backdrop("dark room", _wall((46, 44, 52), (28, 26, 30))),
    _backdrop("sky", _sky),
    _backdrop("night", _night, _crickets),
    _backdrop("street", _street, _traffic),
    _backdrop("kitchen", _kitchen, _fridge),
    _backdrop("forest", _forest, _leaves),
    _backdrop("sea", _sea, _swash),
    _backdrop("grid", _grid, _machine_hum),
    _backdrop("desert", _desert),
    _backdrop("snow", _snow),
    _backdrop("stage", _stage, _murmur),
    _backdrop("library", _library),
)
