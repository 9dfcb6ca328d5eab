"""What is seen and what is heard happen at the same time, and nowhere else."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from PIL import Image, ImageDraw

from peav.synth.world import compose
from peav.synth.world.canvas import COLORS, Canvas
from peav.synth.world.kind import FRAME, Pose, Tune
from peav.synth.world.kinds import KINDS
from peav.synth.world.render import frames, mouth_opening, thing_sound, waveform
from peav.synth.world.scene import Mix, Place, Thing
from peav.synth.world.sounds import RATE, loudness, resample, tone, voiced

DURATION = 4.0
PLACE = Place("centre", 80.0, 90.0, 40.0)
ANTICIPATION = 0.4  # seconds: a ball falls and a hammer is raised before the first hit


def thing(name: str, seed: int = 3) -> Thing:
    kind = KINDS[name]
    pulses = kind.pattern(DURATION, np.random.default_rng(seed))
    return Thing(kind, "red", PLACE, pulses, -20.0, 1.0, 1.0, seed)


def picture(one: Thing, time: float) -> np.ndarray:
    image = Image.new("RGB", (160, 180), (120, 130, 120))
    pose = Pose(time, one.pulses, COLORS["red"], one.rate, one.pitch, one.seed)
    one.kind.look(Canvas(ImageDraw.Draw(image), PLACE.x, PLACE.y, PLACE.half), pose)
    return np.asarray(image).astype(int)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_kind_sounds_inside_its_pulses_and_is_silent_outside(name: str) -> None:
    one = thing(name)
    sound = thing_sound(one, round(DURATION * RATE))
    inside = np.zeros(len(sound), bool)
    for start, end in one.pulses:
        inside[round(start * RATE) : round(end * RATE)] = True
        assert loudness(sound[round(start * RATE) : round(end * RATE)]) > 10 ** (-32 / 20)
    assert not sound[~inside].any()
    assert np.isfinite(sound).all()
    assert 20 * np.log10(loudness(sound)) == pytest.approx(-20, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_kind_moves_while_it_sounds_and_is_still_outside(name: str) -> None:
    one = thing(name)
    times = np.arange(round(DURATION / FRAME)) * FRAME
    pictures = [picture(one, time) for time in times]
    first, last = one.pulses[0][0], one.pulses[-1][1]
    before = [image for image, time in zip(pictures, times, strict=True) if time < first - ANTICIPATION]
    after = [image for image, time in zip(pictures, times, strict=True) if time > last + ANTICIPATION]
    for still in (before, after):
        assert all((image == still[0]).all() for image in still)
    during = [image for image, time in zip(pictures, times, strict=True) if first <= time < last]
    silent = picture(dataclasses.replace(one, pulses=()), 0.0)
    changed = [np.mean(np.abs(image - silent).max(-1) > 30) for image in during]
    assert max(changed) > 0.01, f"{max(changed):.3f}"


@pytest.mark.parametrize("name", KINDS)
def test_a_silent_object_never_moves(name: str) -> None:
    mute = dataclasses.replace(thing(name), pulses=())
    assert all((picture(mute, time) == picture(mute, 0.0)).all() for time in (0.8, 1.6, 3.2))
    assert not thing_sound(mute, RATE).any()


def test_a_ball_is_on_the_floor_at_each_impact_and_in_the_air_between() -> None:
    one = thing("ball")
    starts = [start for start, _ in one.pulses]

    def lowest(time: float) -> float:
        red = np.abs(picture(one, time) - np.array(COLORS["red"])).max(-1) < 8
        return float(np.flatnonzero(red.any(1)).max())

    floor = [lowest(start) for start in starts]
    air = [lowest((one_ + other) / 2) for one_, other in itertools.pairwise(starts)]
    assert max(air) < min(floor) - 20


def test_the_mouth_follows_the_speech() -> None:
    scene = next(s for s in (compose(2, "train", k, Mix(speech=1.0)) for k in range(9)) if s.speaker and s.has_video)
    assert scene.speaker is not None
    mouth = mouth_opening(scene.speaker, scene.frames)
    first, last = round(scene.speaker.start / FRAME), int(np.ceil(scene.speaker.end / FRAME - 1e-6))
    assert not mouth[:first].any()
    assert not mouth[last:].any()
    assert mouth[first:last].max() == 1.0
    assert mouth[first:last].mean() > 0.2


def test_a_clip_has_the_samples_and_frames_of_its_duration() -> None:
    for index in range(6):
        scene = compose(4, "train", index)
        sound, shots = waveform(scene), frames(scene)
        assert sound.shape == (round(scene.duration * RATE),)
        assert sound.dtype == np.float32
        assert np.abs(sound).max() <= 0.951
        assert shots.shape == (round(scene.duration * 12.5), 160, 160, 3)
        assert shots.dtype == np.uint8


def test_the_loud_parts_of_a_clip_lie_in_its_events() -> None:
    for index in range(12):
        scene = dataclasses.replace(compose(5, "train", index), ambience=None)
        sound = waveform(scene)
        inside = np.zeros(len(sound), bool)
        spans = [span for one in scene.things for span in one.pulses]
        if scene.speaker is not None:
            spans.append((scene.speaker.start, scene.speaker.end))
        for start, end in spans:
            inside[round(start * RATE) : round(end * RATE)] = True
        assert np.std(sound[~inside]) < 0.1 * np.std(sound[inside]) if (~inside).any() else True


@pytest.mark.parametrize("seed", [1, 2])
def test_instances_of_a_kind_differ(seed: int) -> None:
    kind = KINDS["dog"]
    base = kind.sound(9600, Tune(1.0, 1.0, np.random.default_rng(seed)))
    other = kind.sound(9600, Tune(1.1, 1.0, np.random.default_rng(seed)))
    assert np.abs(base - other).max() > 0.1


def test_harmonics_by_recurrence_equal_the_sum_of_sines() -> None:
    n, weights = 4800, [0.5, 0.0, 0.25, 0.125]
    time = np.arange(n) / RATE
    naive = sum(w * np.sin(2 * np.pi * 440 * (k + 1) * time) for k, w in enumerate(weights))
    np.testing.assert_allclose(tone(n, 440.0, weights), naive, atol=1e-4)
    assert voiced(n, np.full(n, 200, np.float32), [(700.0, 200.0, 1.0)]).dtype == np.float32


@pytest.mark.parametrize("length", [1000, 22050, 30011])
def test_resampling_keeps_a_sine(length: int) -> None:
    source = np.sin(2 * np.pi * 440 * np.arange(length) / 22050).astype(np.float32)
    fine = resample(source, 22050, RATE)
    assert len(fine) == -(-length * RATE // 22050)
    expected = np.sin(2 * np.pi * 440 * np.arange(len(fine)) / RATE)
    middle = slice(len(fine) // 4, 3 * len(fine) // 4)
    np.testing.assert_allclose(fine[middle], expected[middle], atol=0.02)
