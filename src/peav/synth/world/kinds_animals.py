"""Animals: throats with formants, mouths that open when they call."""

from __future__ import annotations

import numpy as np

from peav.synth.world.canvas import CREAM, INK, Canvas, shade
from peav.synth.world.kind import Pose, Tune, calls, kind, steady
from peav.synth.world.sounds import Signal, decay, edges, glide, noise, pulse, seconds, tone, voiced

MOUTH = (150, 20, 40)


def _eye(c: Canvas, x: float, y: float, radius: float = 0.1) -> None:
    c.disc(x, y, radius, (255, 255, 255))
    c.disc(x, y, radius * 0.5, INK)


def dog(c: Canvas, p: Pose) -> None:
    c = c.moved(0, -0.1 if p.on else 0)
    for x in (-0.55, -0.3, 0.25, 0.5):
        c.rect(x - 0.1, 0.35, x + 0.1, 1, shade(p.color, 0.8))
    c.oval(-0.8, -0.1, 0.6, 0.6, p.color)
    tail = 0.25 * p.wave(5)
    c.line([(-0.75, 0.1), (-1, -0.4 + tail)], p.color, 0.16)
    c.disc(0.55, -0.4, 0.42, p.color)
    c.oval(0.15, -0.75, 0.42, -0.1, shade(p.color, 0.6))
    gap = 0.32 if p.on else 0.0
    c.oval(0.6, -0.5 - gap / 3, 1.05, -0.2 - gap / 3, shade(p.color, 1.4))
    if gap:
        c.poly([(0.6, -0.25), (1.05, -0.3), (0.95, 0.15)], MOUTH)
    c.disc(1.0, -0.42 - gap / 3, 0.08, INK)
    _eye(c, 0.55, -0.55)


def bark(n: int, t: Tune) -> Signal:
    pitch = glide(n, [(0, 260), (0.25, 420), (1, 180)]) * t.pitch
    sound = voiced(n, pitch, [(650, 250, 1.0), (1400, 300, 0.7), (2600, 500, 0.25)], breath=0.5)
    return sound * edges(n, 0.01, 0.08) * decay(n, 0.14)


def cat(c: Canvas, p: Pose) -> None:
    c.oval(-0.5, 0.0, 0.5, 1.0, p.color)
    sway = 0.2 * p.wave(1.5)
    c.line([(0.4, 0.85), (0.85, 0.5), (0.8 + sway, -0.1)], p.color, 0.14)
    c = c.moved(0, -0.12 if p.on else 0)
    for side in (-1, 1):
        c.poly([(side * 0.5, -0.45), (side * 0.48, -1.0), (side * 0.08, -0.75)], p.color)
    c.oval(-0.58, -0.8, 0.58, 0.2, p.color)
    for side in (-1, 1):
        c.oval(side * 0.27 - 0.13, -0.5, side * 0.27 + 0.13, -0.22, (190, 240, 90))
        c.oval(side * 0.27 - 0.04, -0.5, side * 0.27 + 0.04, -0.22, INK)
        for lift in (-0.1, 0.06):
            c.line([(side * 0.2, -0.1), (side * 0.85, -0.1 + lift)], INK, 0.03)
    if p.on:
        c.oval(-0.26, -0.14, 0.26, 0.36, MOUTH)
    else:
        c.line([(-0.12, -0.02), (0, 0.04), (0.12, -0.02)], INK, 0.05)


def meow(n: int, t: Tune) -> Signal:
    pitch = glide(n, [(0, 480), (0.3, 760), (0.7, 690), (1, 430)]) * t.pitch
    body = voiced(n, pitch, [(1100, 350, 1.0), (2300, 400, 0.6), (3600, 600, 0.2)])
    return body * edges(n, 0.12, 0.2)


def bird(c: Canvas, p: Pose) -> None:
    hop = -0.12 * abs(p.wave(3))
    c.line([(-1, 0.75), (1, 0.75)], (110, 74, 40), 0.14)
    c = c.moved(0, hop)
    c.poly([(-0.4, 0.1), (-1.0, 0.45), (-0.9, 0.1)], shade(p.color, 0.7))
    c.oval(-0.6, -0.35, 0.45, 0.6, p.color)
    lift = 0.5 if p.on and p.noise() > 0.5 else 0.0
    c.poly([(-0.35, 0.0), (0.15, 0.0), (-0.45, 0.4 - lift * 1.8)], shade(p.color, 0.6))
    c.disc(0.35, -0.45, 0.36, p.color)
    gape = 0.18 if p.on else 0.0
    c.poly([(0.62, -0.55), (1.0, -0.5 - gape), (0.66, -0.42)], (255, 170, 0))
    c.poly([(0.64, -0.44), (0.96, -0.42 + gape), (0.6, -0.32)], (255, 150, 0))
    _eye(c, 0.42, -0.55)
    c.line([(-0.1, 0.58), (-0.1, 0.72)], INK, 0.06)
    c.line([(0.1, 0.58), (0.1, 0.72)], INK, 0.06)


def chirp(n: int, t: Tune) -> Signal:
    beat = (seconds(n) * np.float32(9 * t.rate)) % 1
    sweep = (3000 + 2200 * beat) * np.float32(t.pitch)
    return tone(n, sweep, (1.0, 0.15)) * (beat < 0.6) * edges(n)


def frog(c: Canvas, p: Pose) -> None:
    swell = 0.25 if p.on else 0.0
    c.oval(-0.95, 0.35, 0.95, 1.0, shade(p.color, 0.75))
    c.oval(-0.75, -0.3, 0.75, 0.85, p.color)
    for side in (-1, 1):
        c.disc(side * 0.42, -0.4, 0.27, p.color)
        _eye(c, side * 0.42, -0.42, 0.18)
        c.oval(side * 0.95 - 0.3, 0.8, side * 0.95 + 0.3, 1.05, shade(p.color, 0.75))
    c.line([(-0.55, 0.12), (0, 0.25), (0.55, 0.12)], INK, 0.07)
    c.oval(-0.3 - swell, 0.3 - swell / 3, 0.3 + swell, 0.6 + swell * 1.3, CREAM)


def croak(n: int, t: Tune) -> Signal:
    buzz = voiced(n, glide(n, [(0, 95), (1, 120)]) * t.pitch, [(500, 150, 1.0), (1000, 200, 0.5)])
    return buzz * pulse(n, 22 * t.rate, 2.0) * edges(n, 0.03, 0.05)


def duck(c: Canvas, p: Pose) -> None:
    c.line([(-0.9, 0.95), (0.9, 0.95)], (60, 130, 230), 0.12)
    c = c.moved(0, -0.12 if p.on else 0)
    c.oval(-0.95, 0.0, 0.55, 0.9, p.color)
    c.poly([(-0.85, 0.35), (-1.05, -0.1), (-0.5, 0.2)], p.color)
    if p.on:
        c.poly([(-0.45, 0.45), (0.15, 0.35), (-0.75, -0.55)], shade(p.color, 0.75))
    else:
        c.oval(-0.5, 0.15, 0.2, 0.6, shade(p.color, 0.75))
    c.poly([(0.15, 0.3), (0.2, -0.5), (0.6, -0.4), (0.52, 0.4)], p.color)
    c.disc(0.4, -0.6, 0.34, p.color)
    gape = 0.28 if p.on else 0.02
    c.poly([(0.65, -0.65), (1.1, -0.6 - gape), (0.68, -0.48)], (255, 140, 0))
    c.poly([(0.66, -0.5), (1.05, -0.48 + gape), (0.6, -0.36)], (235, 110, 0))
    _eye(c, 0.45, -0.7)


def quack(n: int, t: Tune) -> Signal:
    pitch = glide(n, [(0, 330), (0.2, 300), (1, 210)]) * t.pitch
    return voiced(n, pitch, [(1700, 250, 1.0), (2700, 300, 0.9), (900, 150, 0.25)]) * edges(n, 0.02, 0.1)


def cow(c: Canvas, p: Pose) -> None:
    nod = 0.1 * p.wave(1.2)
    for x in (-0.75, -0.45, 0.1, 0.38):
        c.rect(x, 0.4, x + 0.17, 1, (230, 225, 220))
    c.rect(-0.85, -0.25, 0.55, 0.5, (245, 240, 235))
    c.oval(-0.7, -0.2, -0.2, 0.25, p.color)
    c.oval(0.0, 0.0, 0.4, 0.45, p.color)
    c = c.moved(0, nod)
    for side in (-1, 1):
        c.poly([(0.68 + side * 0.2, -0.6), (0.68 + side * 0.4, -0.95), (0.68 + side * 0.34, -0.5)], CREAM)
    c.rect(0.4, -0.62, 0.96, 0.0, (245, 240, 235))
    c.rect(0.36, -0.1, 1.0, 0.24, (250, 170, 170))
    _eye(c, 0.53, -0.4)
    _eye(c, 0.83, -0.4)
    if p.on:
        c.rect(0.45, 0.1, 0.91, 0.42, MOUTH)


def moo(n: int, t: Tune) -> Signal:
    pitch = glide(n, [(0, 120), (0.3, 165), (0.8, 155), (1, 110)]) * t.pitch
    return voiced(n, pitch, [(280, 120, 1.0), (700, 200, 0.6), (1500, 300, 0.08)], breath=0.05) * edges(n, 0.12, 0.2)


def owl(c: Canvas, p: Pose) -> None:
    c.line([(-1, 0.9), (1, 0.9)], (110, 74, 40), 0.16)
    puff = 0.1 if p.on else 0.0
    c.oval(-0.62 - puff, -0.75, 0.62 + puff, 0.9, p.color)
    c.oval(-0.36, 0.05, 0.36, 0.8, CREAM)
    for side in (-1, 1):
        c.poly([(side * 0.55, -0.5), (side * 0.55, -1.0), (side * 0.15, -0.7)], p.color)
        c.disc(side * 0.27, -0.33, 0.26, (255, 255, 255))
        if p.on:
            c.disc(side * 0.27, -0.33, 0.2, (255, 180, 0))
            c.disc(side * 0.27, -0.33, 0.1, INK)
        else:
            c.pie(side * 0.27, -0.33, 0.24, 180, 360, shade(p.color, 0.7))
        spread = 0.45 if p.on else 0.0
        c.poly([(side * 0.6, -0.1), (side * (0.75 + spread), 0.3 - spread), (side * 0.5, 0.7)], shade(p.color, 0.6))
    c.poly([(-0.08, -0.2), (0.08, -0.2), (0, 0.05)], (255, 150, 0))


def hoot(n: int, t: Tune) -> Signal:
    gate = glide(n, [(0, 0), (0.06, 1), (0.25, 0.8), (0.32, 0), (0.4, 0), (0.48, 1), (0.8, 0.9), (1, 0)])
    return tone(n, 370 * t.pitch, (1.0, 0.06)) * gate


def bee(c: Canvas, p: Pose) -> None:
    c = c.moved(0.15 * p.wave(2.1), 0.15 * p.wave(3.3, 0.2))
    wing = 0.9 if not p.on or p.noise() > 0.5 else 0.45
    for x in (-0.25, 0.2):
        c.oval(x - 0.28, -0.1 - wing, x + 0.28, -0.05, (220, 240, 255))
    c.oval(-0.8, -0.35, 0.6, 0.45, p.color)
    for x in (-0.5, -0.15, 0.2):
        c.rect(x - 0.09, -0.3, x + 0.09, 0.4, INK)
    c.disc(0.65, -0.02, 0.3, INK)
    _eye(c, 0.75, -0.1)
    c.poly([(-0.8, -0.05), (-1.0, 0.05), (-0.8, 0.15)], INK)


def buzz(n: int, t: Tune) -> Signal:
    wander = 1 + 0.08 * tone(n, 1.7 * t.rate) + 0.04 * tone(n, 4.3)
    sound = tone(n, wander * np.float32(185 * t.pitch), [1 / k for k in range(1, 22)])
    return (sound + 0.05 * noise(n, t.rng, 2000, 6000)) * edges(n, 0.1, 0.1)


ANIMALS = (
    kind("dog", dog, bark, calls((0.24, 0.4), 3, (0.16, 0.7))),
    kind("cat", cat, meow, calls((0.64, 0.96), 2, (0.3, 0.8))),
    kind("bird", bird, chirp, calls((0.56, 1.2), 2, (0.3, 0.8)), flies=True),
    kind("frog", frog, croak, calls((0.4, 0.64), 3, (0.24, 0.7))),
    kind("duck", duck, quack, calls((0.24, 0.4), 3, (0.16, 0.6))),
    kind("cow", cow, moo, calls((1.04, 1.6), 2, (0.3, 0.6))),
    kind("owl", owl, hoot, calls((0.8, 1.2), 2, (0.3, 0.8)), flies=True),
    kind("bee", bee, buzz, steady(), flies=True),
)
