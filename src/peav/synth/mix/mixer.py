"""A seeded mixer: sounds of any manifest on backgrounds, as Scaper does it (Salamon et al. 2017), in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from peav.data.manifest import Row
from peav.errors import MediaError, MixingError, PeavError
from peav.media import load_audio
from peav.synth.mix.loudness import PAUSE, SHORTEST, SILENCE, Waveform, heard, level
from peav.synth.mix.recent import Recent
from peav.types import Event
from peav.utils.storage import FilePart
from peav.utils.text import readable

RATE = 48_000
QUIET, LOUD = -45.0, -30.0  # dBFS of backgrounds
MASKED = 6.0  # decibels below its background at which a sound's tail is no longer heard
PEAK = 0.98
TRIES = 20
LOWEST = 50.0  # hertz: below this a tilted spectrum goes on level
OCTAVE = 20 * np.log10(2)  # decibels by which an amplitude that grows with frequency grows in an octave


@dataclass(frozen=True)
class Mixing:
    """How soundscapes are drawn.

    Attributes:
        duration: of each, in seconds.
        events: how many sounds are drawn, at least and at most, before repeats; one for which there is no room is left
            out.
        overlap: how many labels may be heard at once.
        snr: of a sound over its background, in decibels, at least and at most.
        repeat: how often a sound comes again.
        cut: how often only a part of a sound is taken.
        fade: seconds over which cut edges fade.
        speed: how many times as fast, and as high, a sound is played, at least and at most.
        tilt: by how many decibels an octave a sound is made brighter or darker, at most.
    """

    duration: float = 10.0
    events: tuple[int, int] = (1, 5)
    overlap: int = 3
    snr: tuple[float, float] = (0.0, 20.0)
    repeat: float = 0.2
    cut: float = 0.3
    fade: float = 0.02
    speed: tuple[float, float] = (1.0, 1.0)
    tilt: float = 0.0

    def __post_init__(self) -> None:
        if self.duration < 1:
            raise MixingError(f"duration: a soundscape lasts at least 1 second, not {self.duration}")
        if not 0 <= self.events[0] <= self.events[1]:
            raise MixingError(f"events: give the least and the most, not {self.events}")
        if self.snr[0] > self.snr[1]:
            raise MixingError(f"snr: give the lowest and the highest, not {self.snr}")
        if self.overlap < 1:
            raise MixingError(f"overlap must be at least 1, not {self.overlap}")
        if not 0.25 <= self.speed[0] <= self.speed[1] <= 4:
            raise MixingError(f"speed: give the lowest and the highest, between 0.25 and 4, not {self.speed}")
        if not 0 <= self.tilt <= 12:
            raise MixingError(f"tilt must be from 0 to 12 decibels an octave, not {self.tilt}")


@dataclass(frozen=True)
class Sound:
    """A stretch of a recording (all of it where the times are None) with one label, and other words for it in `texts`;
    `id` is its row's.
    """

    id: str
    label: str
    path: Path | FilePart
    start: float | None = None
    end: float | None = None
    texts: tuple[str, ...] = ()
    license: str | None = None

    def load(self) -> Waveform:
        """(S,) float32 at 48 kHz. Raises MediaError."""
        return load_audio(self.path, start=self.start or 0.0, end=self.end, sampling_rate=RATE)


@dataclass(frozen=True, eq=False)
class Soundscape:
    """Waveform (S,) float32 at 48 kHz; its events by onset, with the sound that each is of; the background, if any."""

    waveform: Waveform
    events: tuple[tuple[Event, Sound], ...]
    background: Sound | None

    @property
    def caption(self) -> str | None:
        """What is heard in it, in the order in which it begins: the captions of its sounds joined; None for nothing."""
        told = list(dict.fromkeys(said(sound) for _, sound in self.events))
        parts = [", ".join(told[:-1]), told[-1]] if told else []
        if self.background is not None and said(self.background) not in told:
            parts.append(f"{said(self.background)} in the background")
        return " and ".join(filter(None, parts)) or None


_load = Recent(Sound.load, 256 * 2**20)  # 23 minutes, of the process: a mixer goes to others without them


class Mixer:
    """Draws soundscapes from sounds and backgrounds; without backgrounds, or on a silent one, there is pink noise.

    Every label is as frequent as every other, however many sounds it has. Onsets and offsets are those of what is
    heard: within 30 dB of the sound's loudest and not far below the background; pauses of 0.3 s split an event in two.
    """

    def __init__(self, sounds: Sequence[Sound], backgrounds: Sequence[Sound] = (), how: Mixing | None = None) -> None:
        if not sounds:
            raise MixingError(
                "no labeled sound stands alone; give a manifest whose rows have a label, or events that do not overlap"
            )
        self.how = how or Mixing()
        self._sounds: dict[str, list[Sound]] = defaultdict(list)
        for sound in sounds:
            self._sounds[sound.label].append(sound)
        self._labels = sorted(self._sounds)
        self._backgrounds = tuple(backgrounds)

    @property
    def sounds(self) -> list[Sound]:
        """Those that may be events."""
        return [sound for sounds in self._sounds.values() for sound in sounds]

    def __call__(self, rng: np.random.Generator, first: Sound | None = None) -> Soundscape:
        """One soundscape, with `first` among its sounds; the same generator gives the same samples."""
        how = self.how
        mixed, background = self._background(rng)
        ground = level(mixed)
        placed: list[tuple[Event, Sound]] = []
        count = int(rng.integers(how.events[0], how.events[1] + 1))
        for number in range(max(count, 1 if first else 0)):
            sound = first if first and number == 0 else self._draw(rng)
            waveform = self._cut(self._varied(_load(sound), rng), rng)
            for _ in range(1 + (rng.random() < how.repeat)):
                gain = ground + rng.uniform(*how.snr) - _active_level(waveform)
                self._place(mixed, (waveform * 10 ** (gain / 20)).astype(np.float32), sound, ground, placed, rng)
        peak = float(np.abs(mixed).max())
        if peak > PEAK:
            # All of it alike: the sounds keep the levels over the background that were drawn.
            mixed *= PEAK / peak
        return Soundscape(mixed, tuple(sorted(placed, key=lambda one: (one[0].onset, one[0].label))), background)

    def _draw(self, rng: np.random.Generator) -> Sound:
        sounds = self._sounds[self._labels[rng.integers(len(self._labels))]]
        return sounds[rng.integers(len(sounds))]

    def _background(self, rng: np.random.Generator) -> tuple[Waveform, Sound | None]:
        count = round(self.how.duration * RATE)
        sound = self._backgrounds[rng.integers(len(self._backgrounds))] if self._backgrounds else None
        waveform = np.zeros(0, np.float32) if sound is None else _looped(_load(sound), count, rng)
        if level(waveform) < SILENCE:
            waveform, sound = _pink(count, rng), None
        gain = rng.uniform(QUIET, LOUD) - level(waveform)
        return (waveform * 10 ** (gain / 20)).astype(np.float32), sound

    def _varied(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        """A sound at another speed and with another tilt of its spectrum, where the soundscapes vary them."""
        how = self.how
        if how.speed == (1.0, 1.0) and how.tilt == 0:
            return waveform
        count = max(1, round(len(waveform) / np.exp(rng.uniform(*np.log(how.speed)))))
        frequency = np.fft.rfftfreq(len(waveform), 1 / RATE)
        gain = (np.maximum(frequency, LOWEST) / 1000) ** (rng.uniform(-how.tilt, how.tilt) / OCTAVE)
        # Transformed back to fewer samples, the sound is faster, and higher by as much.
        spectrum = np.fft.rfft(waveform) * gain
        return np.fft.irfft(spectrum, count).astype(np.float32)

    def _cut(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        """What is heard of a sound, now and then a part of it, with faded edges; not longer than the soundscape."""
        spans = heard(waveform, RATE)
        if not spans:
            return waveform[:0]
        first, last = round(spans[0][0] * RATE), round(spans[-1][1] * RATE)
        length = min(last - first, round(self.how.duration * RATE))
        if rng.random() < self.how.cut:
            length = round(length * rng.uniform(0.3, 1.0))
        first += int(rng.integers(0, last - first - length + 1))
        cut = waveform[first : first + length].copy()
        fade = min(round(self.how.fade * RATE), len(cut) // 2)
        slope = np.linspace(0, 1, fade, dtype=np.float32)
        cut[:fade] *= slope
        cut[len(cut) - fade :] *= slope[::-1]
        return cut

    def _place(
        self,
        mixed: Waveform,
        waveform: Waveform,
        sound: Sound,
        ground: float,
        placed: list[tuple[Event, Sound]],
        rng: np.random.Generator,
    ) -> None:
        """Add a sound where not too many are heard already, or nowhere if no place is found."""
        spans = heard(waveform, RATE, ground - MASKED)
        for _ in range(TRIES if spans else 0):
            start = int(rng.integers(0, len(mixed) - len(waveform) + 1))
            offset = start / RATE
            events = [
                Event(sound.label, onset=round(offset + a, 3), offset=round(offset + b, 3), texts=sound.texts)
                for a, b in spans
            ]
            if all(self._fits(event, [other for other, _ in placed]) for event in events):
                mixed[start : start + len(waveform)] += waveform
                placed += [(event, sound) for event in events]
                return

    def _fits(self, event: Event, others: Sequence[Event]) -> bool:
        """Whether no more than `overlap` labels sound at once, and the label itself not twice."""
        near = [other for other in others if other.onset < event.offset and event.onset < other.offset]
        same = any(
            other.label == event.label and other.onset < event.offset + PAUSE and event.onset < other.offset + PAUSE
            for other in others
        )
        at_once = max((sum(o.onset <= n.onset < o.offset for o in near) for n in near), default=0)
        return not same and at_once < self.how.overlap


def sounds_of(rows: Sequence[Row]) -> list[Sound]:
    """The labeled sounds of manifest rows: timed events during which no other label sounds, or the whole of a row with
    a `label` column, whose audio captions are other words for it.
    """
    found = []
    for row in rows:
        if row.audio_path is None:
            continue
        start = row.start or 0.0
        if row.events:
            for event in filter(lambda event: _alone(event, row.events), row.events):
                times = (start + event.onset, start + event.offset)
                found.append(Sound(row.id, readable(event.label), row.audio_path, *times, event.texts, row.license))
        elif isinstance(row.extra.get("label"), str):
            texts = tuple(row.captions.get("audio", ()))
            label = readable(row.extra["label"])
            found.append(Sound(row.id, label, row.audio_path, row.start, row.end, texts, row.license))
    return found


def _alone(event: Event, events: Sequence[Event]) -> bool:
    """Whether an event lasts, and no other label sounds meanwhile."""
    lasts = event.offset - event.onset >= SHORTEST
    return lasts and not any(
        other.label != event.label and other.onset < event.offset and event.onset < other.offset for other in events
    )


def said(sound: Sound) -> str:
    """A sound in words, as a part of a sentence: a caption of it, or its label."""
    text = next(iter(sound.texts), "").strip().rstrip(".") or sound.label
    return text[:1].lower() + text[1:] if text[1:2].islower() or text.startswith("A ") else text


def audible(sounds: Sequence[Sound]) -> tuple[list[Sound], list[tuple[Sound, PeavError]]]:
    """The sounds in which something is heard, and those that cannot be read or are silent, with the error."""
    good: list[Sound] = []
    failed: list[tuple[Sound, PeavError]] = []
    for sound in sounds:
        try:
            if not heard(_load(sound), RATE):
                raise MixingError(f"{sound.path}: nothing is heard in it")
            good.append(sound)
        except (MediaError, MixingError) as error:
            failed.append((sound, error))
    return good, failed


def _active_level(waveform: Waveform) -> float:
    """The level of what is heard of a sound, without its pauses, in dBFS."""
    spans = heard(waveform, RATE)
    parts = [waveform[round(start * RATE) : round(end * RATE)] for start, end in spans]
    return max(level(np.concatenate(parts) if parts else waveform), -120.0)


def _looped(waveform: Waveform, count: int, rng: np.random.Generator) -> Waveform:
    """A background long enough: from anywhere in it, and over again with a crossfade of a tenth of a second."""
    fade = min(RATE // 10, len(waveform) // 4)
    slope = np.linspace(0, 1, fade, dtype=np.float32)
    turn = waveform[: len(waveform) - fade].copy()
    turn[:fade] = turn[:fade] * slope + waveform[len(waveform) - fade :] * slope[::-1]
    start = int(rng.integers(0, len(turn)))
    return np.take(turn, np.arange(start, start + count), mode="wrap")


def _pink(count: int, rng: np.random.Generator) -> Waveform:
    """Noise that falls 3 dB an octave."""
    spectrum = np.fft.rfft(rng.standard_normal(count, dtype=np.float32))
    frequency = np.fft.rfftfreq(count, 1 / RATE)
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(frequency, 20.0)), count).astype(np.float32)
