"""Turns a scene into samples and frames."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from peav.synth.world.backdrops import SIZE, painted
from peav.synth.world.canvas import COLORS, Canvas
from peav.synth.world.figure import draw_figure
from peav.synth.world.kind import FRAME, Pose, Tune
from peav.synth.world.scene import Place, Scene, Speaker, Thing
from peav.synth.world.sounds import RATE, Signal, at_level, white

FRAME_SIZE = 160
_HALF = FRAME_SIZE / 2
_FLYING = 24.0  # pixels
_FLOOR = -66.0  # dBFS of the broadband noise floor


def waveform(scene: Scene) -> Signal:
    """The clip's sound: float32 (S,) at 48 kHz, |x| < 1, S = duration x 48 000."""
    total = round(scene.duration * RATE)
    rng = np.random.default_rng([scene.seed, 1])
    mixed = white(total, rng) * np.float32(10 ** ((_FLOOR + rng.uniform(-6, 6)) / 20))
    if scene.ambience is not None and scene.backdrop.ambience is not None:
        mixed += at_level(scene.backdrop.ambience(total, rng), scene.ambience)
    for thing in scene.things:
        mixed += thing_sound(thing, total)
    if scene.speaker is not None:
        start = round(scene.speaker.start * RATE)
        voice = at_level(scene.speaker.utterance.waveform, scene.speaker.level)[: total - start]
        mixed[start : start + len(voice)] += voice
    mixed[1:] += np.float32(rng.uniform(-0.25, 0.25)) * mixed[:-1]  # a room's tilt of the spectrum
    peak = float(np.abs(mixed).max())
    return mixed * np.float32(0.95 / peak) if peak > 0.95 else mixed


def thing_sound(thing: Thing, total: int) -> Signal:
    """One object alone in a clip of `total` samples: its sound within each pulse, silence outside."""
    track = np.zeros(total, np.float32)
    tune = Tune(thing.pitch, thing.rate, np.random.default_rng(thing.seed))
    for start, end in thing.pulses:
        first, last = round(start * RATE), min(total, round(end * RATE))
        pulse = thing.kind.sound(last - first, tune)
        fade = min(240, len(pulse))
        pulse[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
        track[first:last] = pulse
    return at_level(track, thing.level) if thing.pulses else track


def frames(scene: Scene) -> NDArray[np.uint8]:
    """The clip's picture: uint8 (N, 160, 160, 3), 12.5 a second."""
    wide = painted(scene.backdrop, np.random.default_rng([scene.seed, 2]))
    shots = np.empty((scene.frames, FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
    mouth = mouth_opening(scene.speaker, scene.frames) if scene.speaker else np.zeros(scene.frames)
    for number in range(scene.frames):
        shots[number] = np.asarray(_shot(scene, wide, number, float(mouth[number])))
    return shots


def mouth_opening(speaker: Speaker, count: int) -> NDArray[np.float32]:
    """How far the mouth is open in each frame, 0..1: the envelope of the speech during that frame."""
    opening = np.zeros(count, np.float32)
    hop = round(FRAME * RATE)
    first = round(speaker.start / FRAME)
    for number in range(first, count):
        piece = speaker.utterance.waveform[(number - first) * hop : (number - first + 1) * hop]
        if len(piece):
            opening[number] = math.sqrt(float(np.mean(piece**2)))
    return np.minimum(1.0, opening / (0.6 * float(opening.max()) + 1e-9))


def _shot(scene: Scene, wide: Image.Image, number: int, mouth: float) -> Image.Image:
    dx, dy, zoom = camera_at(scene, number)
    reach = _HALF / zoom
    center_x, center_y = SIZE / 2 + dx, SIZE / 2 + dy
    box = (round(center_x - reach), round(center_y - reach), round(center_x + reach), round(center_y + reach))
    shot = wide.crop(box)
    if shot.size != (FRAME_SIZE, FRAME_SIZE):
        shot = shot.resize((FRAME_SIZE, FRAME_SIZE), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(shot)

    def canvas(place: Place, lift: float = 0.0) -> Canvas:
        x, y = place.x - _HALF - dx, place.y - lift - _HALF - dy
        return Canvas(draw, _HALF + x * zoom, _HALF + y * zoom, place.half * zoom)

    time = number * FRAME
    for thing in scene.things:
        if thing.place is not None:
            pose = Pose(time, thing.pulses, COLORS[thing.color], thing.rate, thing.pitch, thing.seed)
            thing.kind.look(canvas(thing.place, _FLYING if thing.kind.flies else 0.0), pose)
    if scene.speaker is not None:
        speaker = scene.speaker
        blink = (number + scene.seed) % 23 == 0
        draw_figure(canvas(speaker.place), speaker.figure, mouth, blink)
    return shot


def camera_at(scene: Scene, number: int) -> tuple[float, float, float]:
    """Shift in pixels and zoom of the camera at a frame."""
    progress = number / max(1, scene.frames - 1)
    if scene.camera in ("left", "right"):
        return (1 if scene.camera == "right" else -1) * (24 * progress - 12), 0.0, 1.0
    if scene.camera in ("in", "out"):
        along = progress if scene.camera == "in" else 1 - progress
        return 0.0, 8 * along, 1 + 0.22 * along
    if scene.camera == "shake":
        shake = np.random.default_rng([scene.seed, 3, number]).uniform(-4, 4, 2)
        return float(shake[0]), float(shake[1]), 1.0
    return 0.0, 0.0, 1.0
