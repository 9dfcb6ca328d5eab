"""Machines and signals; and, at their places in the table, the vehicles."""

from __future__ import annotations

import math

import numpy as np

from peav.synth.world.canvas import CREAM, GLOW, INK, STEEL, WOOD, Canvas, shade, turned
from peav.synth.world.kind import Pose, Tune, calls, hits, kind, steady
from peav.synth.world.kinds_vehicles import TRAIN, VEHICLES
from peav.synth.world.sounds import Signal, edges, glide, noise, phase, pulse, ring, tone


def bell(c: Canvas, p: Pose) -> None:
    angle = 28 * math.sin(math.pi * (p.begun + 0.5)) * (0.3 + 0.7 * p.near) if p.busy or p.near else 0
    c.rect(-0.7, -1, 0.7, -0.85, WOOD)
    side = [(0.15, -0.8), (0.4, -0.4), (0.5, 0.4), (0.75, 0.7)]
    c.poly(turned([*side, *[(-x, y) for x, y in reversed(side)]], angle, (0, -0.85)), p.color)
    c.disc(*turned([(0, 0.8)], angle * 1.5, (0, -0.85))[0], 0.17, shade(p.color, 0.5))


def toll(n: int, t: Tune) -> Signal:
    base = 430 * t.pitch
    modes = ((0.5, 0.8, 0.5), (1, 0.7, 1), (1.19, 0.5, 0.7), (2, 0.4, 0.6), (2.75, 0.2, 0.4))
    return ring(n, [(base * f, d, a) for f, d, a in modes])


def siren(c: Canvas, p: Pose) -> None:
    c.rect(-0.8, 0.55, 0.8, 1, (60, 62, 72))
    flash = p.on and math.sin(2 * math.pi * 2 * p.rate * p.elapsed) >= 0
    c.pie(0, 0.55, 0.6, 180, 360, GLOW if flash else shade(p.color, 1.0 if p.on else 0.6))
    if p.on:
        for ray in range(5):
            x, y = turned([(0.72, 0)], -20 - 35 * ray)[0]
            c.line([(x, 0.45 + y), (x * 1.45, 0.45 + y * 1.45)], GLOW if flash else p.color, 0.12)


def wail(n: int, t: Tune) -> Signal:
    sweep = 900 + 400 * np.sin(phase(2 * t.rate, n)).astype(np.float32)
    return tone(n, sweep * np.float32(t.pitch), (1, 0.4, 0.25, 0.1)) * edges(n, 0.03, 0.05)


def telephone(c: Canvas, p: Pose) -> None:
    c = c.moved(0.08 * (p.noise() - 0.5) if p.on else 0, 0)
    c.poly([(-0.55, -0.2), (0.55, -0.2), (0.9, 0.95), (-0.9, 0.95)], p.color)
    c.disc(0, 0.4, 0.38, CREAM)
    for hole in range(8):
        c.disc(*turned([(0, 0.15)], 45 * hole, (0, 0.4))[0], 0.06, INK)
    up = (0.2 + 0.15 * p.noise(3)) if p.on else 0.0
    c.line([(-0.65, -0.5 - up), (0.65, -0.5 - up)], shade(p.color, 0.7), 0.24)
    for side in (-1, 1):
        c.oval(side * 0.72 - 0.26, -0.62 - up, side * 0.72 + 0.26, -0.2 - up, shade(p.color, 0.7))
        if p.on:
            c.line([(side * 0.75, -0.85), (side * 1.0, -1.1)], GLOW, 0.09)


def ringing(n: int, t: Tune) -> Signal:
    trill = 0.5 + 0.5 * np.sign(np.sin(phase(22 * t.rate, n))).astype(np.float32)
    return (tone(n, 1350 * t.pitch, (1, 0, 0.3)) * trill + tone(n, 1700 * t.pitch) * (1 - trill)) * edges(n, 0.01, 0.06)


def saw(c: Canvas, p: Pose) -> None:
    c.rect(-1, 0.4, 1, 0.95, WOOD)
    for x in (-0.7, 0.3):
        c.line([(x, 0.55), (x + 0.4, 0.55)], shade(WOOD, 0.6), 0.05)
    stroke = 0.4 * math.cos(2 * math.pi * 2.5 * p.rate * p.elapsed) if p.on else 0.3
    c = c.moved(stroke, 0)
    teeth = [(-0.9 + 0.1 * k, 0.35 if k % 2 else 0.5) for k in range(14)]
    c.poly([(-0.9, 0.2), (0.45, -0.15), *teeth[::-1]], (200, 208, 216))
    c.poly([(0.3, -0.3), (0.8, -0.4), (0.9, 0.3), (0.4, 0.5)], p.color)
    if p.on:
        for dust in range(5):
            c.disc(-0.5 + 0.4 * p.noise(dust), 0.75 + 0.2 * p.noise(dust + 9), 0.05, CREAM, None)


def sawing(n: int, t: Tune) -> Signal:
    stroke = np.abs(np.sin(phase(2.5 * t.rate, n))).astype(np.float32)
    rasp = noise(n, t.rng, 900 * t.pitch, 4500 * t.pitch) * pulse(n, 95 * t.rate, 1.0)
    return rasp * stroke**1.5 * edges(n)


def kettle(c: Canvas, p: Pose) -> None:
    c.poly([(-0.45, -0.3), (0.45, -0.3), (0.75, 0.85), (-0.75, 0.85)], p.color)
    c.poly([(0.55, 0.2), (1.0, -0.25), (1.05, -0.1), (0.68, 0.55)], p.color)
    c.arc(0, -0.25, 0.5, 180, 360, INK, 0.12)
    c.oval(-0.4, -0.42, 0.4, -0.2, shade(p.color, 0.7))
    c.rect(-0.9, 0.85, 0.9, 1, INK)
    if p.on:
        c.rect(-0.6, 0.85, 0.6, 0.97, (255, 110, 20))
        for puff in range(5):
            rise = (p.elapsed * 1.2 + puff * 0.2) % 1
            c.disc(0.95 - 0.5 * rise + 0.2 * p.noise(puff), -0.3 - 0.7 * rise, 0.1 + 0.16 * rise, (250, 250, 255), None)


def whistle(n: int, t: Tune) -> Signal:
    rise = glide(n, [(0, 2300), (0.4, 2900), (1, 3000)]) * t.pitch
    swell = glide(n, [(0, 0), (0.25, 0.7), (0.95, 1), (1, 0)])
    return (tone(n, rise, (1, 0.12)) + 0.12 * noise(n, t.rng, 2500, 9000)) * swell


def carhorn(c: Canvas, p: Pose) -> None:
    c = c.moved(0, -0.05 if p.on else 0)
    c.poly([(-0.3, -0.12), (0.6, -0.75), (0.6, 0.75), (-0.3, 0.12)], p.color)
    c.oval(0.42, -0.75, 0.8, 0.75, shade(p.color, 1.4))
    bulb = 0.18 if p.on else 0.36
    c.oval(-0.35 - 2 * bulb, -bulb, -0.3, bulb, INK)
    if p.on:
        for radius in (0.3, 0.5, 0.7):
            c.arc(0.7, 0, radius, -40, 40, GLOW, 0.1)


def honk(n: int, t: Tune) -> Signal:
    both = tone(n, 390 * t.pitch, [1 / k for k in range(1, 12)]) + tone(n, 490 * t.pitch, [1 / k for k in range(1, 12)])
    return both * edges(n, 0.02, 0.04)


def robot(c: Canvas, p: Pose) -> None:
    c.line([(0, -0.75), (0, -1)], STEEL, 0.08)
    c.disc(0, -0.98, 0.12, (255, 60, 60) if p.on and p.noise() > 0.4 else (90, 20, 20))
    c.rect(-0.6, -0.78, 0.6, 0.05, STEEL)
    for index, x in enumerate((-0.28, 0.28)):
        c.rect(x - 0.18, -0.6, x + 0.18, -0.3, (90, 255, 240) if p.on and p.noise(index) > 0.3 else INK)
    c.rect(-0.35, -0.2, 0.35, -0.05, INK)
    c.rect(-0.5, 0.1, 0.5, 0.75, p.color)
    lift = 0.5 * p.wave(2)
    for side in (-1, 1):
        c.line([(side * 0.5, 0.25), (side * 0.95, 0.3 - lift * side)], STEEL, 0.15)
        c.rect(side * 0.3 - 0.15, 0.75, side * 0.3 + 0.15, 1, INK)


def beeps(n: int, t: Tune) -> Signal:
    slots = max(1, int(n / 48_000 * 9 * t.rate))
    notes = np.repeat(t.rng.uniform(600, 2600, slots + 1), -(-n // slots))[:n].astype(np.float32) * np.float32(t.pitch)
    gaps = (np.arange(n) * slots / n % 1 < 0.75).astype(np.float32)
    return np.sign(tone(n, notes)) * gaps * edges(n)


def drill(c: Canvas, p: Pose) -> None:
    c = c.moved(0.05 * (p.noise() - 0.5) if p.on else 0, 0.0)
    c.rect(0.75, -1, 1.1, 1, (180, 110, 90))
    c.rect(-0.8, -0.55, 0.25, 0.0, p.color)
    c.poly([(-0.7, 0.0), (-0.25, 0.0), (-0.35, 0.85), (-0.8, 0.85)], shade(p.color, 0.7))
    c.rect(0.25, -0.42, 0.42, -0.13, INK)
    twist = int(p.time / 0.08) % 2 if p.on else 0
    c.rect(0.42, -0.33, 0.85, -0.22, STEEL if twist else (235, 235, 240))
    if p.on:
        for chip in range(5):
            x, y = 0.3 + 0.4 * p.noise(chip), 0.5 * p.noise(chip + 5) - 0.9 * p.noise(chip + 8)
            c.line([(0.75, -0.28), (x, y)], GLOW, 0.05)


def drilling(n: int, t: Tune) -> Signal:
    spin = glide(n, [(0, 250), (0.08, 620), (0.9, 600), (1, 350)]) * t.pitch
    whine = tone(n, spin, [1, 0.9, 0.3, 0.8, 0.2, 0.6, 0.2, 0.4, 0.1, 0.3])
    return (whine + 0.5 * noise(n, t.rng, 3000, 9000)) * edges(n, 0.03, 0.08)


def fan(c: Canvas, p: Pose) -> None:
    c.rect(-0.1, 0.3, 0.1, 0.9, STEEL)
    c.oval(-0.5, 0.82, 0.5, 1.02, p.color)
    c.disc(0, -0.25, 0.72, (232, 236, 240))
    turn = 560 * p.elapsed * p.rate
    for blade in range(3):
        c.poly(turned([(0, -0.25), (-0.2, -0.85), (0.22, -0.8)], turn + 120 * blade, (0, -0.25)), p.color)
    c.disc(0, -0.25, 0.13, INK)


def whirr(n: int, t: Tune) -> Signal:
    air = noise(n, t.rng, 150, 1000, 2) * (0.8 + 0.2 * pulse(n, 7 * t.rate, 1))
    return (air + 0.9 * tone(n, 240 * t.pitch, (1, 0.5, 0.3))) * edges(n, 0.25, 0.3)


def raygun(c: Canvas, p: Pose) -> None:
    c.poly([(-0.9, -0.3), (0.2, -0.35), (0.2, 0.15), (-0.9, 0.1)], p.color)
    c.poly([(-0.8, 0.1), (-0.4, 0.1), (-0.5, 0.85), (-0.9, 0.85)], shade(p.color, 0.6))
    c.disc(0.2, -0.1, 0.28, STEEL)
    c.disc(0.38, -0.1, 0.12, (255, 60, 60))
    if p.on:
        reach = 0.5 + 0.7 * p.progress
        c.line([(0.45, -0.1), (reach + 0.6, -0.1)], (80, 255, 80), 0.24)
        c.disc(reach + 0.5, -0.1, 0.3, GLOW)


def zap(n: int, t: Tune) -> Signal:
    sweep = 2600 * np.exp(-4 * np.linspace(0, 1, n)).astype(np.float32) + 120
    return tone(n, sweep * np.float32(t.pitch), (1, 0.5, 0.4, 0.2)) * edges(n, 0.003, 0.05)


# Scenes draw kinds by their place in the table, so the order is part of what a seed renders.
MACHINES = (
    kind("bell", bell, toll, hits((0.72, 1.04), (2, 4), 0.72)),
    kind("siren", siren, wail, steady()),
    *VEHICLES,
    kind("telephone", telephone, ringing, calls((0.72, 1.04), 2, (0.4, 0.8))),
    kind("saw", saw, sawing, steady()),
    kind("kettle", kettle, whistle, steady()),
    kind("horn", carhorn, honk, calls((0.32, 0.72), 3, (0.16, 0.6))),
    kind("toy robot", robot, beeps, calls((0.64, 1.2), 2, (0.3, 0.6))),
    TRAIN,
    kind("drill", drill, drilling, steady()),
    kind("fan", fan, whirr, steady(1.8)),
    kind("ray gun", raygun, zap, calls((0.32, 0.48), 3, (0.16, 0.6))),
)
