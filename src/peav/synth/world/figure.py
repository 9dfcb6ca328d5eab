"""The talking figure: its look follows from its voice, its mouth from the speech envelope."""

from __future__ import annotations

from dataclasses import dataclass

from peav.synth.world.canvas import COLORS, INK, STEEL, Canvas, Color, shade

HAIR: dict[str, Color] = {
    "black": (26, 22, 26),
    "brown": (104, 62, 30),
    "blond": (244, 212, 110),
    "red": (200, 70, 30),
}
SKINS: tuple[Color, ...] = ((250, 214, 180), (222, 170, 126), (150, 100, 66), (96, 62, 44))
BALD_OR_GREY = ("old man", "old woman")


@dataclass(frozen=True)
class Figure:
    """Who is seen talking: the kind of person, hair and clothes by color name, skin by number."""

    who: str
    hair: str
    clothes: str
    skin: int


def draw_figure(c: Canvas, figure: Figure, mouth: float, blink: bool) -> None:
    """Paint the figure with its mouth open by `mouth` in 0..1."""
    clothes = COLORS[figure.clothes]
    c = c.moved(0, -0.05 * mouth)
    if figure.who == "robot":
        return _android(c, clothes, mouth)
    skin = SKINS[figure.skin]
    hair = (205, 205, 210) if figure.who in BALD_OR_GREY else HAIR[figure.hair]
    if figure.who in ("woman", "old woman"):
        c.oval(-0.66, -1.0, 0.66, 0.5, hair)
    if figure.who == "hooded person":
        c.poly([(0, -1.15), (0.75, -0.4), (0.7, 0.6), (-0.7, 0.6), (-0.75, -0.4)], clothes)
    c.poly([(-0.35, 0.4), (0.35, 0.4), (0.85, 0.65), (0.95, 1.1), (-0.95, 1.1), (-0.85, 0.65)], clothes)
    c.rect(-0.15, 0.2, 0.15, 0.5, shade(skin, 0.9), None)
    c.oval(-0.48, -0.72, 0.48, 0.4, skin)
    _hair(c, figure.who, hair)
    for side in (-1, 1):
        c.disc(side * 0.2, -0.22, 0.11, skin if blink else (255, 255, 255))
        if not blink:
            c.disc(side * 0.2, -0.22, 0.06, INK)
    if figure.who in BALD_OR_GREY:
        for side in (-1, 1):
            c.disc(side * 0.2, -0.22, 0.17, None)
    c.oval(-0.2, 0.1 - 0.02, 0.2, 0.12 + 0.3 * mouth, (150, 20, 40))


def _hair(c: Canvas, who: str, hair: Color) -> None:
    if who in ("man", "woman", "old woman"):
        c.pie(0, -0.32, 0.52, 180, 360, hair)
    if who == "old woman":
        c.disc(0, -0.95, 0.25, hair)
    if who == "old man":
        c.poly([(-0.42, 0.1), (0.42, 0.1), (0.25, 0.62), (-0.25, 0.62)], hair)
        c.oval(-0.24, 0.02, 0.24, 0.5, (250, 214, 180), None)
    if who == "man":
        c.line([(-0.2, 0.02), (0.2, 0.02)], hair, 0.1)
    if who == "child":
        c.pie(0, -0.36, 0.48, 190, 350, hair)
        for side in (-1, 1):
            c.disc(side * 0.56, -0.5, 0.22, hair)


def _android(c: Canvas, clothes: Color, mouth: float) -> None:
    c.rect(-0.75, 0.5, 0.75, 1.1, clothes)
    c.rect(-0.15, 0.3, 0.15, 0.5, STEEL)
    c.rect(-0.6, -0.75, 0.6, 0.35, STEEL)
    for side in (-1, 1):
        c.rect(side * 0.68 - 0.08, -0.4, side * 0.68 + 0.08, 0.0, INK)
        c.disc(side * 0.27, -0.35, 0.15, (255, 70, 60))
    c.rect(-0.35, 0.02, 0.35, 0.06 + 0.24 * mouth, (255, 230, 80))
    c.line([(0, -0.75), (0, -1.0)], INK, 0.07)
    c.disc(0, -1.0, 0.09, (255, 70, 60))
