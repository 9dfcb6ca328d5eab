"""Weather, water, fire and music."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from peav.synth.world.canvas import CREAM, GLOW, INK, STEEL, WOOD, Canvas, Color, shade, turned
from peav.synth.world.kind import Pose, Tune, kind, steady
from peav.synth.world.sounds import RATE, Signal, decay, edges, glide, grains, noise, pulse, ring, seconds, tone

DROP: Color = (60, 140, 255)


def umbrella(c: Canvas, p: Pose) -> None:
    c.line([(0, -0.3), (0, 0.85)], WOOD, 0.1)
    c.arc(0.12, 0.82, 0.14, 0, 180, WOOD, 0.1)
    c.pie(0, 0.1, 0.85, 180, 360, p.color)
    for x in (-0.45, 0.0, 0.45):
        c.line([(0, -0.75), (x, 0.1)], shade(p.color, 0.6), 0.05)
    if p.on:
        for drop in range(34):
            x = -1.25 + 2.5 * p.fixed(drop)
            y = -1.4 + 2.5 * ((p.fixed(drop + 40) + p.time * 1.7) % 1)
            if abs(x) > 0.85 or y < -0.3:
                c.line([(x, y), (x - 0.06, y + 0.26)], DROP, 0.09)


def rain(n: int, t: Tune) -> Signal:
    hiss = noise(n, t.rng, 2500, 12000, 1)
    return (hiss + 0.8 * grains(n, t.rng, 500, 0.004, 2000, 9000)) * edges(n, 0.2, 0.25)


def flag(c: Canvas, p: Pose) -> None:
    c.line([(-0.8, -1), (-0.8, 1)], STEEL, 0.12)
    c.disc(-0.8, -1, 0.1, GLOW)
    if not p.on:
        c.poly([(-0.75, -0.9), (-0.45, -0.75), (-0.35, 0.5), (-0.6, 0.3), (-0.75, 0.5)], p.color)
        return
    top = [(-0.75 + 0.17 * k, -0.85 + 0.16 * math.sin(k * 0.9 - 9 * p.time)) for k in range(11)]
    c.poly([*top, *[(x, y + 0.95) for x, y in reversed(top)]], p.color)
    c.line([(x, y + 0.47) for x, y in top], shade(p.color, 0.6), 0.12)
    for streak in range(3):
        x = -1.2 + 2.4 * ((p.time * 0.9 + p.fixed(streak)) % 1)
        c.line([(x, 0.4 + 0.25 * streak), (x + 0.4, 0.4 + 0.25 * streak)], (235, 245, 255), 0.06)


def wind(n: int, t: Tune) -> Signal:
    gust = 0.55 + 0.45 * np.sin(2 * np.pi * (0.7 * t.rate * seconds(n) + t.rng.random()))
    low, high = noise(n, t.rng, 150, 450, 1), noise(n, t.rng, 500 * t.pitch, 800 * t.pitch)
    return ((low + 0.8 * high * gust) * gust * edges(n, 0.2, 0.25)).astype(np.float32)


def boat(c: Canvas, p: Pose) -> None:
    hull = c.moved(0, 0.14 * p.wave(0.9))
    tip = 12 * p.wave(0.9, 0.25)
    hull.poly(turned([(-0.6, 0.35), (0.6, 0.35), (0.4, 0.65), (-0.4, 0.65)], tip), WOOD)
    hull.line(turned([(0, 0.35), (0, -0.95)], tip), INK, 0.08)
    hull.poly(turned([(0.06, -0.9), (0.65, 0.2), (0.06, 0.2)], tip), p.color)
    hull.poly(turned([(-0.06, -0.7), (-0.5, 0.2), (-0.06, 0.2)], tip), shade(p.color, 1.5))
    for row, tint in enumerate(((40, 120, 220), (20, 80, 180))):
        height = 0.17 if p.on else 0.03
        crests = [math.sin(1.5 * k + row * 2 - 6 * p.elapsed) for k in range(11)]
        surf = [(-1 + 0.2 * k, 0.58 + 0.2 * row + height * crest) for k, crest in enumerate(crests)]
        c.poly([*surf, (1, 1), (-1, 1)], tint, None)
        c.line(surf, (240, 250, 255) if p.on else tint, 0.07)


def surf_sound(n: int, t: Tune) -> Signal:
    swell = pulse(n, 0.8 * t.rate, 1.6)
    return noise(n, t.rng, 250, 5000, 4) * (0.15 + 0.85 * swell) * edges(n, 0.2, 0.25)


def campfire(c: Canvas, p: Pose) -> None:
    if p.on:
        for layer, tint in enumerate(((255, 90, 10), (255, 165, 20), (255, 240, 110))):
            size = 1 - 0.28 * layer
            for tongue in range(3):
                x, lean = (tongue - 1) * 0.42 * size, 0.5 * (p.noise(tongue + layer * 3) - 0.5)
                top = 0.55 - (1.1 + 0.5 * p.noise(tongue * 5 + layer)) * size * (1 - 0.3 * abs(tongue - 1))
                c.poly([(x - 0.34 * size, 0.6), (x + lean, top), (x + 0.34 * size, 0.6)], tint, None)
    for angle in (-14, 14):
        c.poly(turned([(-0.9, 0.58), (0.9, 0.58), (0.9, 0.85), (-0.9, 0.85)], angle, (0, 0.72)), (100, 60, 30))
    for x in (-0.8, -0.3, 0.25, 0.75):
        c.disc(x, 0.92, 0.16, (140, 140, 146))


def crackle(n: int, t: Tune) -> Signal:
    roar = 0.12 * noise(n, t.rng, 80, 500, 2)
    snaps = grains(n, t.rng, 22 * t.rate, 0.008, 1200, 7000)
    return (roar + 2.5 * snaps) * edges(n, 0.1, 0.15)


def tap(c: Canvas, p: Pose) -> None:
    c.rect(-0.9, 0.6, 0.9, 1.0, (235, 240, 245))
    c.rect(-0.7, -0.55, 0.35, -0.25, STEEL)
    c.rect(0.1, -0.55, 0.4, 0.0, STEEL)
    c.rect(-0.35, -0.8, -0.2, -0.5, STEEL)
    c.oval(-0.65, -1.0, 0.1, -0.72, p.color)
    if p.on:
        sway = 0.04 * (p.noise() - 0.5)
        c.poly([(0.14, 0.0), (0.36, 0.0), (0.4 + sway, 0.75), (0.1 + sway, 0.75)], DROP, None)
        for splash in range(6):
            x = 0.25 + 0.9 * (p.noise(splash) - 0.5)
            c.disc(x, 0.7 - 0.3 * p.noise(splash + 9), 0.07, DROP, None)


def running_water(n: int, t: Tune) -> Signal:
    bubbles = np.zeros(n, np.float32)
    for _ in range(int(n / RATE * 28)):
        length = 1900
        start = int(t.rng.integers(0, max(1, n - length)))
        pitch = glide(length, [(0, 1), (1, 1.5)]) * np.float32(t.rng.uniform(500, 1300) * t.pitch)
        blip = tone(length, pitch) * decay(length, 0.01)
        bubbles[start : start + length] += blip[: n - start]
    return (0.16 * noise(n, t.rng, 900, 6000) + bubbles) * edges(n, 0.08, 0.1)


def radio(c: Canvas, p: Pose) -> None:
    c = c.moved(0, 0.04 * (p.noise() - 0.5) if p.on else 0)
    c.line([(0.6, -0.45), (0.95, -1.05)], STEEL, 0.07)
    c.rect(-0.95, -0.45, 0.95, 0.75, p.color)
    thump = 0.1 * (1 - (p.elapsed * 2.2 * p.rate) % 1) if p.on else 0.0
    for x in (-0.5, 0.5):
        c.disc(x, 0.15, 0.34 + thump, INK)
        c.disc(x, 0.15, 0.16 + thump, STEEL)
    c.rect(-0.8, -0.38, 0.8, -0.22, GLOW if p.on else INK)
    if p.on:
        _notes(c, p)


def _notes(c: Canvas, p: Pose) -> None:
    for note in range(3):
        rise = (p.elapsed * 0.8 + note / 3) % 1
        x, y = -0.6 + 0.6 * note + 0.1 * math.sin(9 * rise), -0.45 - 0.65 * rise
        c.disc(x, y, 0.11, INK)
        c.line([(x + 0.1, y), (x + 0.1, y - 0.3), (x + 0.24, y - 0.22)], INK, 0.06)


def piano(c: Canvas, p: Pose) -> None:
    c.rect(-0.95, -0.7, 0.95, 0.3, p.color)
    c.rect(-1, 0.25, 1, 0.6, CREAM)
    pressed = {int(p.elapsed * 4.4 * p.rate + 3 * k + p.seed) * 5 % 10 for k in range(2)} if p.on else set()
    for key in range(10):
        x = -1 + 0.2 * key
        c.rect(x, 0.25, x + 0.2, 0.6, (255, 120, 40) if key in pressed else CREAM)
        if key % 5 not in (2, 4):
            c.rect(x + 0.14, 0.25, x + 0.26, 0.44, INK)
    for x in (-0.85, 0.72):
        c.rect(x, 0.6, x + 0.13, 1, shade(p.color, 0.7))
    if p.on:
        _notes(c, p)


def guitar(c: Canvas, p: Pose) -> None:
    strum = 0.25 * p.wave(2.2 * p.rate)
    c.poly([(-0.1, -0.2), (0.75, -1.05), (0.9, -0.9), (0.1, 0.05)], WOOD)
    c.disc(-0.1, 0.1, 0.42, p.color)
    c.disc(-0.42, 0.48, 0.5, p.color, None)
    c.disc(-0.25, 0.28, 0.2, INK)
    for string in (-0.05, 0.05):
        shake = 0.04 * (p.noise() - 0.5) if p.on else 0
        c.line([(-0.55 + string + shake, 0.58 + string), (0.8 + string, -0.96 + string)], (240, 240, 240), 0.03)
    c.oval(0.1 + strum, 0.2 + strum, 0.5 + strum, 0.5 + strum, (240, 190, 150))
    if p.on:
        _notes(c.moved(0.2, 0.1), p)


Note = Callable[[float, int], Signal]
_CHORDS = ((0, 4, 7), (5, 9, 12), (7, 11, 14), (9, 12, 16), (2, 5, 9))


def _melody(n: int, t: Tune, root: float, per_second: float, note: Note, spread: float) -> Signal:
    """Chords on the beat, each from the tune's own progression; `note(frequency, length)` gives one string."""
    beat = int(RATE / per_second)
    total = np.zeros(n, np.float32)
    for index, start in enumerate(range(0, n, beat)):
        chord = _CHORDS[int(t.rng.integers(len(_CHORDS)))]
        for position, step in enumerate(chord):
            offset = start + int(position * spread * beat)
            if offset < n:
                length = min(n - offset, int(1.6 * beat))
                octave = 2 if index % 2 and position == 2 else 1
                total[offset : offset + length] += note(root * t.pitch * octave * 2 ** (step / 12), length)
    return total * edges(n, 0.01, 0.15)


def _hammered(frequency: float, n: int) -> Signal:
    return ring(n, [(frequency * k, 0.35 / k**0.7, 0.8**k) for k in (1, 2, 3, 4, 5)])


def _plucked(frequency: float, n: int) -> Signal:
    weights = [abs(math.sin(0.9 * k)) / k**0.8 for k in range(1, 16)]
    return tone(n, frequency, weights) * decay(n, 0.14)


def _pad(frequency: float, n: int) -> Signal:
    pair = tone(n, frequency, [1 / k for k in range(1, 12)]) + tone(n, frequency * 1.007, [1 / k for k in range(1, 8)])
    return pair * edges(n, 0.03, 0.1)


def piano_music(n: int, t: Tune) -> Signal:
    return _melody(n, t, 262, 2.2 * t.rate, _hammered, 0.0)


def guitar_music(n: int, t: Tune) -> Signal:
    return _melody(n, t, 165, 2.2 * t.rate, _plucked, 0.22)


def radio_music(n: int, t: Tune) -> Signal:
    """Pads with a bass drum on each beat and a hat between."""
    tempo = 2.2 * t.rate
    pads = _melody(n, t, 196, tempo / 2, _pad, 0.0)
    since = (seconds(n) * tempo) % 1 / tempo
    kick = np.sin(2 * np.pi * 55 * since + 6 * (1 - np.exp(-30 * since))) * np.exp(-12 * since)
    hat = noise(n, t.rng, 7000, 15000) * np.exp(-40 * ((seconds(n) * tempo + 0.5) % 1) / tempo)
    return (0.35 * pads + 2.2 * kick + 0.6 * hat).astype(np.float32) * edges(n, 0.01, 0.1)


NATURE = (
    kind("umbrella", umbrella, rain, steady()),
    kind("flag", flag, wind, steady(1.8)),
    kind("boat", boat, surf_sound, steady(1.8)),
    kind("fire", campfire, crackle, steady(1.8), tinted=False),
    kind("tap", tap, running_water, steady()),
)

MUSIC = (
    kind("radio", radio, radio_music, steady(2.0, 4.0)),
    kind("piano", piano, piano_music, steady(2.0, 4.0)),
    kind("guitar", guitar, guitar_music, steady(2.0, 4.0)),
)
