"""Vehicles: on the road, in the air and on rails."""

from __future__ import annotations

import numpy as np

from peav.synth.world.canvas import CREAM, GLOW, INK, STEEL, Canvas, shade, turned
from peav.synth.world.kind import Pose, Tune, hits, kind, steady
from peav.synth.world.sounds import Signal, edges, glide, noise, pulse, tone


def car(c: Canvas, p: Pose) -> None:
    c = c.moved(0.05 * p.wave(6), 0.03 * (p.noise() - 0.5) if p.on else 0)
    if p.on:
        for puff in range(3):
            c.disc(-1.05 - 0.12 * puff, 0.5 - 0.15 * puff * p.noise(puff), 0.1 + 0.04 * puff, (180, 180, 180), None)
    c.poly([(-0.6, 0.1), (-0.35, -0.4), (0.35, -0.4), (0.6, 0.1)], p.color)
    c.poly([(-0.42, 0.05), (-0.25, -0.28), (0.25, -0.28), (0.42, 0.05)], (170, 220, 250))
    c.rect(-1, 0.05, 1, 0.62, p.color)
    c.disc(0.9, 0.25, 0.11, GLOW if p.on else CREAM)
    for x in (-0.55, 0.55):
        c.disc(x, 0.65, 0.29, INK)
        spoke = turned([(x - 0.22, 0.65), (x + 0.22, 0.65)], 720 * p.elapsed, (x, 0.65))
        c.line(spoke, STEEL, 0.09)


def engine(n: int, t: Tune) -> Signal:
    base = glide(n, [(0, 42), (0.2, 60), (0.6, 75), (1, 48)]) * t.pitch
    rumble = tone(n, base, [1 / k**0.6 for k in range(1, 14)])
    return (rumble + 0.35 * noise(n, t.rng, 60, 500) * np.std(rumble)) * edges(n, 0.1, 0.15)


def motorbike(c: Canvas, p: Pose) -> None:
    c = c.moved(0.04 * p.wave(9), -0.12 * abs(p.wave(1.5)))
    for x in (-0.62, 0.62):
        c.disc(x, 0.55, 0.38, INK)
        c.disc(x, 0.55, 0.2, (200, 200, 205))
        c.line(turned([(x - 0.2, 0.55), (x + 0.2, 0.55)], 900 * p.elapsed, (x, 0.55)), INK, 0.07)
    c.line([(-0.62, 0.55), (-0.1, 0.1), (0.4, 0.1), (0.62, 0.55)], STEEL, 0.12)
    c.poly([(-0.3, 0.3), (0.35, 0.3), (0.45, -0.1), (-0.1, -0.1)], p.color)
    c.poly([(-0.75, -0.2), (-0.1, -0.15), (-0.1, 0.02), (-0.7, -0.05)], INK)
    c.line([(0.62, 0.55), (0.35, -0.55), (0.12, -0.6)], STEEL, 0.09)
    c.disc(0.5, -0.3, 0.13, GLOW if p.on else CREAM)
    if p.on:
        c.disc(-1.0 - 0.1 * p.noise(), 0.6, 0.14, (200, 200, 200), None)


def rev(n: int, t: Tune) -> Signal:
    time = np.arange(n) / 48_000
    saw = ((time * 1.6 * t.rate) % 1).astype(np.float32)
    body = tone(n, (110 + 170 * saw) * np.float32(t.pitch), [1 / k**0.4 for k in range(1, 24)])
    return body * edges(n, 0.05, 0.1)


def helicopter(c: Canvas, p: Pose) -> None:
    c = c.moved(0.06 * p.wave(0.7), 0.08 * p.wave(0.9, 0.3))
    c.poly([(0.3, -0.1), (1, -0.2), (1, 0.0), (0.3, 0.2)], shade(p.color, 0.8))
    c.line([(0.97, -0.4), (0.97, 0.15)], INK, 0.08)
    c.oval(-0.85, -0.4, 0.5, 0.55, p.color)
    c.pie(-0.3, 0.05, 0.36, 150, 300, (170, 220, 250))
    c.line([(-0.15, -0.4), (-0.15, -0.65)], INK, 0.1)
    reach = 1.0 * (0.25 + 0.75 * p.noise()) if p.on else 0.95
    c.line([(-0.15 - reach, -0.66), (-0.15 + reach, -0.66)], INK, 0.09)
    if p.on:
        c.oval(-1.1, -0.74, 0.8, -0.58, None, (120, 120, 130))
    c.line([(-0.75, 0.8), (0.4, 0.8)], INK, 0.09)
    for x in (-0.5, 0.15):
        c.line([(x, 0.5), (x, 0.8)], INK, 0.06)


def rotor(n: int, t: Tune) -> Signal:
    chop = pulse(n, 11 * t.rate, 6.0)
    return (noise(n, t.rng, 60, 900, 3) * chop + 0.15 * tone(n, 95 * t.pitch, (1, 0.5))) * edges(n, 0.15, 0.2)


def train(c: Canvas, p: Pose) -> None:
    c = c.moved(0, 0.04 * (p.begun % 2) if p.busy else 0)
    c.rect(-0.95, -0.55, -0.25, 0.5, p.color)
    c.rect(-0.8, -0.4, -0.4, 0.0, (170, 220, 250))
    c.oval(-0.35, -0.25, 0.95, 0.5, shade(p.color, 0.8))
    c.rect(0.45, -0.65, 0.7, -0.15, INK)
    c.poly([(0.8, 0.4), (1.1, 0.85), (0.7, 0.85)], STEEL)
    for x in (-0.65, 0.0, 0.55):
        c.disc(x, 0.65, 0.27, INK)
        c.line(turned([(x - 0.2, 0.65), (x + 0.2, 0.65)], 60 * p.begun, (x, 0.65)), (255, 80, 60), 0.08)
    if p.busy:
        for puff in range(4):
            size = 0.14 + 0.06 * puff
            c.disc(0.55 - 0.3 * puff, -0.85 - 0.08 * puff + 0.1 * p.noise(puff), size, (235, 235, 240), None)


def chuff(n: int, t: Tune) -> Signal:
    return noise(n, t.rng, 250 * t.pitch, 2200 * t.pitch, 2) * glide(n, [(0, 0), (0.15, 1), (0.5, 0.5), (1, 0)])


VEHICLES = (
    kind("car", car, engine, steady()),
    kind("motorbike", motorbike, rev, steady()),
    kind("helicopter", helicopter, rotor, steady(1.8), flies=True),
)

TRAIN = kind("train", train, chuff, hits((0.24, 0.4), (6, 11), 0.24))
