"""Things that are struck: each hit is heard at the frame in which it is seen."""

from __future__ import annotations

import math

import numpy as np

from peav.synth.world.canvas import CREAM, GLOW, INK, WOOD, Canvas, shade, turned
from peav.synth.world.kind import Pose, Tune, hits, kind, once
from peav.synth.world.sounds import Signal, decay, edges, glide, grains, noise, ring, tone

SKIN = (240, 190, 150)


def ball(c: Canvas, p: Pose) -> None:
    height = _bounce(p)
    squash = 0.12 if height < 0.05 and p.on else 0.0
    c.oval(-0.5, 0.9, 0.5, 1.02, (60, 60, 60), None)
    top = 0.96 - 0.9 * height
    c.oval(-0.46 - squash, top - 0.92 + 2 * squash, 0.46 + squash, top, p.color)
    c.arc(0, top - 0.46 + squash, 0.3, 200, 290, shade(p.color, 1.7), 0.12)
    c.line([(-0.46, top - 0.46 + squash), (0.46, top - 0.46 + squash)], shade(p.color, 0.6), 0.08)


def _bounce(p: Pose) -> float:
    starts = [start for start, _ in p.pulses]
    if not starts:
        return 0.0
    if p.time < starts[0]:
        ahead = starts[0] - p.time
        return max(0.0, 1 - (1 - ahead / 0.32) ** 2) if ahead < 0.32 else 1.0
    if p.begun < len(starts):
        span = starts[p.begun] - starts[p.begun - 1]
        u = (p.time - starts[p.begun - 1]) / span
        return 4 * u * (1 - u)
    return 0.0


def bounce(n: int, t: Tune) -> Signal:
    thump = tone(n, glide(n, [(0, 210), (0.3, 110), (1, 90)]) * t.pitch, (1.0, 0.3)) * decay(n, 0.06)
    return thump + 0.25 * noise(n, t.rng, 200, 1200) * decay(n, 0.012)


def drum(c: Canvas, p: Pose) -> None:
    c.poly([(-0.75, 0.0), (0.75, 0.0), (0.65, 0.95), (-0.65, 0.95)], p.color)
    for x in (-0.6, -0.2, 0.2):
        c.line([(x, 0.1), (x + 0.2, 0.9), (x + 0.4, 0.1)], CREAM, 0.05)
    c.oval(-0.78, -0.22, 0.78, 0.22, GLOW if p.on else CREAM)
    lift = 1 - p.near if (p.pulses and p.busy) or p.near else 0.35
    for side in (-1, 1):
        tip = (side * 0.2, -0.02 - 0.6 * (lift if (p.begun + (side > 0)) % 2 or not p.busy else 0.9))
        c.line([(side * 0.95, -0.75), tip], WOOD, 0.1)
        c.disc(*tip, 0.1, WOOD)


def boom(n: int, t: Tune) -> Signal:
    low = tone(n, glide(n, [(0, 130), (0.2, 82), (1, 70)]) * t.pitch) * decay(n, 0.13)
    return low + 0.4 * noise(n, t.rng, 100, 4000, 4) * decay(n, 0.03)


def hammer(c: Canvas, p: Pose) -> None:
    c.poly([(-0.95, 0.35), (0.75, 0.35), (0.45, 0.6), (0.3, 1), (-0.4, 1), (-0.45, 0.6)], (70, 74, 84))
    angle = -75 * (1 - p.near) if p.busy or p.near else -25
    pivot = (0.95, 0.2)
    c.line(turned([(0.95, 0.2), (-0.1, 0.2)], -angle, pivot), WOOD, 0.14)
    c.poly(turned([(-0.35, -0.1), (-0.02, -0.1), (-0.02, 0.36), (-0.35, 0.36)], -angle, pivot), p.color)
    if p.on and p.elapsed < 0.1:
        for spark in range(5):
            c.line([(-0.2, 0.3), (-0.9 + 0.4 * spark, -0.15 - 0.2 * (spark % 2))], GLOW, 0.06)


def clang(n: int, t: Tune) -> Signal:
    modes = ((1250, 0.12, 1.0), (2730, 0.1, 0.8), (4480, 0.07, 0.6), (6900, 0.04, 0.4))
    return ring(n, [(f * t.pitch, d, a) for f, d, a in modes]) + 0.5 * noise(n, t.rng, 2000, 9000) * decay(n, 0.006)


def door(c: Canvas, p: Pose) -> None:
    shake = 0.03 if p.on and p.elapsed < 0.1 else 0.0
    c.rect(-0.75, -1, 0.55, 1, shade(WOOD, 0.6))
    c.rect(-0.65 + shake, -0.92, 0.45 + shake, 1, p.color)
    for top in (-0.8, 0.15):
        c.rect(-0.5 + shake, top, 0.3 + shake, top + 0.75, shade(p.color, 0.75))
    c.disc(-0.52, 0.1, 0.07, GLOW)
    reach = 0.5 * (1 - p.near) if p.busy or p.near else 0.6
    c.line([(1.1, 0.5), (0.35 + reach, 0.0)], (60, 70, 140), 0.26)
    c.disc(0.3 + reach, -0.04, 0.2, SKIN)


def knock(n: int, t: Tune) -> Signal:
    parts = [(f * t.pitch, d, a) for f, d, a in ((340, 0.025, 1.0), (560, 0.02, 0.7), (910, 0.012, 0.4))]
    return ring(n, parts) + 0.3 * noise(n, t.rng, 400, 2500) * decay(n, 0.005)


def keyboard(c: Canvas, p: Pose) -> None:
    c.rect(-0.65, -0.95, 0.65, 0.05, INK)
    c.rect(-0.57, -0.87, 0.57, -0.03, (180, 230, 255) if p.busy else (40, 60, 80))
    if p.busy:
        for row in range(min(4, p.begun // 3 + 1)):
            c.line([(-0.5, -0.75 + 0.2 * row), (0.4 - 0.2 * (row % 2), -0.75 + 0.2 * row)], (20, 60, 120), 0.07)
    c.poly([(-0.8, 0.2), (0.8, 0.2), (1, 0.95), (-1, 0.95)], p.color)
    lit = {int(p.noise() * 18), int(p.noise(1) * 18)}
    for key in range(18):
        row, column = divmod(key, 6)
        x, y = -0.7 + 0.25 * column, 0.28 + 0.22 * row
        c.rect(x, y, x + 0.18, y + 0.15, GLOW if p.on and key in lit else shade(p.color, 0.45))


def click(n: int, t: Tune) -> Signal:
    key = ring(n, [(480 * t.rng.uniform(0.9, 1.1), 0.01, 0.4)])
    return (noise(n, t.rng, 1800, 5500) * decay(n, 0.007) + key) * np.float32(t.rng.uniform(0.6, 1.0))


def boots(c: Canvas, p: Pose) -> None:
    stride = math.sin(math.pi * (p.begun + (1 - p.near))) if p.busy or p.near else 0.0
    for side in (-1, 1):
        lift = 0.3 * (1 - p.near) if p.busy and (p.begun + (side > 0)) % 2 else 0.0
        x, y = side * 0.38 + 0.15 * stride * side, -lift
        c.rect(x - 0.2, -1 + y, x + 0.2, 0.2 + y, (50, 70, 150))
        c.rect(x - 0.23, 0.1 + y, x + 0.23, 0.7 + y, p.color)
        c.oval(x - 0.25, 0.5 + y, x + 0.5, 0.92 + y, p.color)
        c.rect(x - 0.25, 0.86 + y, x + 0.5, 0.97 + y, INK)


def step(n: int, t: Tune) -> Signal:
    heel = 0.8 * noise(n, t.rng, 60, 300) * decay(n, 0.03)
    return heel + grains(n, t.rng, 900, 0.006, 800, 3500) * glide(n, [(0, 1), (0.4, 0.5), (0.7, 0), (1, 0)])


def clock(c: Canvas, p: Pose) -> None:
    c.poly([(-0.6, -0.65), (0, -1.05), (0.6, -0.65), (0.6, 0.35), (-0.6, 0.35)], p.color)
    c.disc(0, -0.3, 0.45, CREAM)
    c.line([(0, -0.3), (0.0, -0.62)], INK, 0.07)
    angle = 30 * p.begun if p.pulses else 60
    c.line([(0, -0.3), *turned([(0, -0.65)], angle, (0, -0.3))], (200, 20, 20), 0.05)
    swing = 28 * (1 if p.begun % 2 else -1) * (0.4 + 0.6 * p.near) if p.busy else 0
    rod = turned([(0, 0.3), (0, 0.85)], swing, (0, 0.3))
    c.line(rod, INK, 0.07)
    c.disc(*rod[1], 0.17, (255, 205, 40))


def tick(n: int, t: Tune) -> Signal:
    high = 2400 * t.pitch * (1.0 if t.rng.random() < 0.5 else 0.8)
    return ring(n, [(high, 0.009, 1.0), (high * 2.1, 0.006, 0.5)])


def jar(c: Canvas, p: Pose) -> None:
    c.rect(-0.6, -0.3, 0.6, 1, GLOW if p.on else (205, 232, 240))
    c.rect(-0.7, -0.42, 0.7, -0.26, p.color)
    c.rect(-0.4, 0.1, 0.4, 0.4, p.color)
    for coin in range(min(9, 4 + p.begun)):
        x, y = -0.55 + 0.36 * (coin % 3), 0.8 - 0.16 * (coin // 3)
        c.oval(x, y, x + 0.37, y + 0.18, (255, 205, 40))
    if p.busy or p.near:
        c.disc(0.1, -0.95 + 0.55 * p.near, 0.2, (255, 205, 40))


def jingle(n: int, t: Tune) -> Signal:
    base = t.pitch * t.rng.uniform(0.95, 1.05)
    return ring(n, [(f * base, 0.09, a) for f, a in ((5200, 1.0), (6700, 0.8), (8900, 0.7), (11500, 0.5))])


def hands(c: Canvas, p: Pose) -> None:
    gap = 0.1 + 0.45 * (1 - p.near) if p.busy or p.near else 0.4
    for side in (-1, 1):
        x = side * gap
        c.poly([(x, 0.35), (x + side * 0.35, 0.3), (x + side * 0.6, 1), (x + side * 0.2, 1)], p.color)
        c.oval(x - 0.04 * side, -0.25, x + side * 0.42, 0.5, SKIN)
        for finger in range(4):
            left = x + side * (0.02 + 0.1 * finger)
            c.oval(left, -0.85 + 0.08 * abs(finger - 1), left + side * 0.13, 0.1, SKIN)
    if p.on and p.elapsed < 0.1:
        for ray in (-1, 0, 1):
            c.line([(0.3 * ray, -0.8), (0.6 * ray, -1.1)], GLOW, 0.08)


def clap(n: int, t: Tune) -> Signal:
    return noise(n, t.rng, 700 * t.pitch, 2600 * t.pitch) * decay(n, 0.025) * edges(n, 0.001, 0.02)


def xylophone(c: Canvas, p: Pose) -> None:
    hues = ((226, 32, 38), (248, 138, 20), (250, 222, 40), (40, 178, 60), (36, 92, 232), (140, 50, 190))
    played = (p.begun * 3 + p.seed) % 6 if p.begun else -1
    c.rect(-1, 0.1, 1, 0.25, p.color)
    c.rect(-1, 0.65, 1, 0.8, p.color)
    for bar in range(6):
        x, length = -0.95 + 0.32 * bar, 0.62 - 0.07 * bar
        c.rect(x, 0.45 - length, x + 0.27, 0.45 + length, (255, 255, 255) if bar == played and p.on else hues[bar])
    x = -0.8 + 0.32 * max(played, 0)
    lift = 0.7 * (1 - p.near) if p.busy or p.near else 0.6
    c.line([(x + 0.4, -0.9 - lift / 3), (x, 0.2 - lift)], WOOD, 0.08)
    c.disc(x, 0.2 - lift, 0.12, p.color)


def mallet(n: int, t: Tune) -> Signal:
    note = 880 * t.pitch * 2 ** (int(t.rng.choice([0, 2, 4, 7, 9, 12])) / 12)
    return ring(n, [(note, 0.16, 1.0), (note * 3.0, 0.06, 0.35), (note * 6.1, 0.02, 0.15)])


def vase(c: Canvas, p: Pose) -> None:
    c.rect(-0.9, 0.75, 0.9, 1, WOOD)
    if not p.begun:
        side = [(0.2, -0.95), (0.14, -0.5), (0.55, 0.2), (0.35, 0.75)]
        c.poly([*side, *[(-x, y) for x, y in reversed(side)]], p.color)
        c.line([(-0.3, 0.1), (-0.22, 0.5)], shade(p.color, 1.7), 0.08)
        return
    flight = min(1.0, (p.time - p.pulses[0][0]) / 0.3)
    for piece in range(9):
        angle = piece * 0.7 + p.fixed(piece)
        x = (0.15 + 0.75 * flight * p.fixed(piece + 20)) * math.cos(angle) * 1.2
        y = 0.62 - (1 - flight) * (0.4 + 0.8 * p.fixed(piece + 40))
        shard = [(x - 0.16, y + 0.1), (x, y - 0.2), (x + 0.14, y + 0.12)]
        c.poly(turned(shard, 360 * angle * flight, (x, y)), p.color)


def shatter(n: int, t: Tune) -> Signal:
    modes = t.rng.uniform(2500, 11000, 14) * t.pitch
    shards = [(f, t.rng.uniform(0.05, 0.25), t.rng.uniform(0.2, 0.6)) for f in modes]
    crash = noise(n, t.rng, 1500, 14000) * decay(n, 0.07)
    return crash + ring(n, shards) + grains(n, t.rng, 60, 0.03, 4000, 12000) * decay(n, 0.3)


IMPACTS = (
    kind("ball", ball, bounce, hits((0.48, 0.72), (3, 6), 0.24)),
    kind("drum", drum, boom, hits((0.32, 0.64), (3, 8), 0.32)),
    kind("hammer", hammer, clang, hits((0.48, 0.8), (3, 6), 0.32)),
    kind("door", door, knock, hits((0.24, 0.4), (3, 6), 0.16)),
    kind("keyboard", keyboard, click, hits((0.08, 0.16), (14, 26), 0.08)),
    kind("boots", boots, step, hits((0.4, 0.64), (4, 8), 0.24)),
    kind("clock", clock, tick, hits((0.24, 0.48), (6, 12), 0.08)),
    kind("coins", jar, jingle, hits((0.32, 0.56), (3, 7), 0.24)),
    kind("hands", hands, clap, hits((0.24, 0.48), (4, 9), 0.16)),
    kind("xylophone", xylophone, mallet, hits((0.24, 0.48), (4, 8), 0.24)),
    kind("vase", vase, shatter, once(0.6, 0.64)),
)
