"""Composes a clip: what is there, when it sounds, where it stands. A pure function of (seed, split, index)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from peav.synth.world.backdrops import BACKDROPS, Backdrop
from peav.synth.world.canvas import COLORS
from peav.synth.world.figure import HAIR, SKINS, Figure
from peav.synth.world.kind import EVENT_GAP, FRAME, Kind, Span, snap
from peav.synth.world.kinds import KINDS
from peav.synth.world.speech import Utterance, say
from peav.synth.world.splits import SPLITS, draw_kinds, draw_transcript, draw_voice
from peav.synth.world.voices import Voice

SIDES = ("left", "centre", "right")
CAMERAS = ("still", "left", "right", "in", "out", "shake")
SHORTEST, LONGEST = 3.2, 4.8  # seconds


@dataclass(frozen=True)
class Mix:
    """Shares of clips: with a speaker, speakers without other sounding objects, without video, without sound."""

    speech: float = 0.35
    speech_alone: float = 0.5
    audio_only: float = 0.05
    silent_video: float = 0.05
    off_screen: float = 0.35
    silent_object: float = 0.3


@dataclass(frozen=True)
class Place:
    """Where something is drawn: its side in words, center and half size in pixels of the 160 x 160 frame."""

    side: str
    x: float
    y: float
    half: float


@dataclass(frozen=True)
class Thing:
    """One object: where it is drawn (nowhere if out of sight), when it sounds (seconds), how loud (dBFS), how tuned."""

    kind: Kind
    color: str
    place: Place | None
    pulses: tuple[Span, ...]
    level: float
    pitch: float
    rate: float
    seed: int

    @property
    def visible(self) -> bool:
        """Whether it is on screen."""
        return self.place is not None

    @property
    def sounds(self) -> bool:
        """Whether it is ever heard."""
        return bool(self.pulses)

    @property
    def events(self) -> list[Span]:
        """Its sounding spans, close ones joined."""
        joined: list[Span] = []
        for start, end in self.pulses:
            if joined and start - joined[-1][1] < EVENT_GAP:
                joined[-1] = (joined[-1][0], end)
            else:
                joined.append((start, end))
        return joined


@dataclass(frozen=True)
class Speaker:
    """A talking figure: who, where, what is said and when."""

    voice: Voice
    figure: Figure
    place: Place
    start: float
    level: float
    transcript: str
    utterance: Utterance

    @property
    def end(self) -> float:
        """Seconds into the clip."""
        return self.start + self.utterance.duration


@dataclass(frozen=True)
class Scene:
    """Everything that render and captions need."""

    id: str
    split: str
    seed: int
    duration: float
    backdrop: Backdrop
    ambience: float | None  # dBFS
    camera: str
    things: tuple[Thing, ...]
    speaker: Speaker | None
    has_audio: bool
    has_video: bool

    @property
    def frames(self) -> int:
        """Number of video frames."""
        return round(self.duration / FRAME)


def compose(seed: int, split: str, index: int, mix: Mix | None = None) -> Scene:
    """The scene of one clip. Raises MissingSpeechError where it needs a speaker and espeak-ng is not installed."""
    mix = mix or Mix()
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    streams = rng.random()
    has_audio = streams >= mix.silent_video
    has_video = streams < 1 - mix.audio_only
    duration = snap(rng.uniform(SHORTEST, LONGEST))
    spoken: tuple[Voice, str, Utterance] | None = None
    if rng.random() < mix.speech:
        spoken = _speech(rng, split)
        duration = max(duration, snap(min(LONGEST, spoken[2].duration + 0.4)))
    sounding = _count(rng, spoken is not None, mix)
    silent = int(has_video and has_audio and sounding + bool(spoken) < 3 and rng.random() < mix.silent_object)
    hidden = int(has_audio and rng.random() < mix.off_screen * (0.4 if spoken else 1.0))
    names = draw_kinds(rng, sounding + silent + hidden, split)
    places = _places(rng, bool(spoken) + sounding + silent)
    speaker = _speaker(rng, spoken, places.pop(), duration) if spoken else None
    level = -30.0 if speaker else -22.0
    things = []
    for position, name in enumerate(names):
        place = places[position] if has_video and position < len(places) else None
        is_silent = sounding <= position < sounding + silent
        things.append(_thing(rng, KINDS[name], place, duration, level, is_silent))
    backdrop = BACKDROPS[int(rng.integers(len(BACKDROPS)))]
    return Scene(
        id=f"{split}-{index:06d}",
        split=split,
        seed=int(rng.integers(2**31)),
        duration=duration,
        backdrop=backdrop,
        ambience=rng.uniform(-44, -36) if backdrop.ambience and rng.random() < 0.8 else None,
        camera="still" if rng.random() < 0.35 else str(rng.choice(CAMERAS[1:])),
        things=tuple(things),
        speaker=speaker,
        has_audio=has_audio,
        has_video=has_video,
    )


def _speech(rng: np.random.Generator, split: str) -> tuple[Voice, str, Utterance]:
    while True:
        voice, transcript = draw_voice(rng, split), draw_transcript(rng, split)
        utterance = say(transcript, voice)
        if utterance.duration < LONGEST - 0.3:
            return voice, transcript, utterance


def _count(rng: np.random.Generator, speaking: bool, mix: Mix) -> int:
    if speaking:
        return 0 if rng.random() < mix.speech_alone else 1
    return 1 + int(rng.choice(3, p=(0.15, 0.5, 0.35)))


def _places(rng: np.random.Generator, count: int) -> list[Place]:
    """Where the visible objects go: the fewer there are, the larger; neighbors are staggered to stay in sight."""
    smallest, largest = {1: (42, 50), 2: (34, 41), 3: (28, 33)}[max(count, 1)]
    places = []
    for side in rng.permutation(3)[:count]:
        half = rng.uniform(smallest, largest)
        x = np.clip((34, 80, 126)[side] + rng.uniform(-3, 3), 0.9 * half, 160 - 0.9 * half)
        lift = rng.uniform(0, 10) if side != 1 or count == 1 else rng.uniform(24, 44)
        places.append(Place(SIDES[side], float(x), float(150 - half - lift), float(half)))
    return places


def _thing(
    rng: np.random.Generator, kind: Kind, place: Place | None, duration: float, level: float, is_silent: bool
) -> Thing:
    pulses = kind.pattern(duration, rng)
    return Thing(
        kind=kind,
        color=str(rng.choice(list(COLORS))),
        place=place,
        pulses=() if is_silent else pulses,
        level=level + rng.uniform(-8, 8) * (0.5 if level < -25 else 1.0),
        pitch=rng.uniform(0.88, 1.14),
        rate=rng.uniform(0.85, 1.18),
        seed=int(rng.integers(2**31)),
    )


def _speaker(rng: np.random.Generator, spoken: tuple[Voice, str, Utterance], place: Place, duration: float) -> Speaker:
    voice, transcript, utterance = spoken
    clothes = str(rng.choice(list(COLORS)))
    figure = Figure(voice.figure, str(rng.choice(list(HAIR))), clothes, int(rng.integers(len(SKINS))))
    latest = max(0.0, duration - utterance.duration - 0.05)
    start = round(float(np.floor(rng.uniform(0.0, latest) / FRAME) * FRAME), 2)
    return Speaker(voice, figure, place, start, -18 + rng.uniform(-3, 3), transcript, utterance)
