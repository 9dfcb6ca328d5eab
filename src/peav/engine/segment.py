"""Rows into clips of at most 30 seconds: long ones are cut, at shot changes and at silences where that is asked for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from peav.data.manifest import Row
from peav.engine.clip import Clip
from peav.errors import MediaError, RecipeError
from peav.inference.sources import sparing
from peav.media import Window, iter_audio, iter_frames, probe
from peav.types import Event, Word

PIECE = 2.0  # seconds of frames that are in memory at a time
SIDE = 64  # pixels of the frames that shots are told by
GRID, BINS = 4, 64  # histograms of 4 x 4 parts of the picture, of 64 levels of gray
FAR = 12.0  # levels
SHOT = 0.15  # of 1, by how much the histograms of two frames differ at least at a cut
CONTRAST = 1.6  # that difference times how many times larger it is than those nearby
NEARBY = 12  # frames on each side
BLOCK = 0.05  # seconds whose level is one
RATE = 16000


@dataclass(frozen=True)
class Segmenter:
    """Cuts rows into clips.

    A row of at most `max_seconds` that nothing cuts stays as it is. Otherwise it becomes segments: each begins at a
    cut, is at least `min_seconds` long, and what is longer than `max_seconds` is cut evenly.

    Attributes:
        max_seconds: of a clip.
        min_seconds: a cut that would leave less is not made.
        shots: cut where the shot changes.
        silences: cut in the middle of silences.
        silence_db: sound below it is silence, in dB of full scale.
        silence_seconds: the shortest silence.
    """

    max_seconds: float = 30.0
    min_seconds: float = 1.0
    shots: bool = False
    silences: bool = False
    silence_db: float = -50.0
    silence_seconds: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < 2 * self.min_seconds <= self.max_seconds < math.inf:
            raise RecipeError(
                f"segments of {self.min_seconds:g} to {self.max_seconds:g} s: give a min_seconds above 0 that is at "
                "most half of max_seconds"
            )

    @property
    def cuts_by(self) -> dict[str, Any]:
        """The options that `cuts` depends on, besides the row's media; empty where it looks at none."""
        silence = {"silence_db": self.silence_db, "silence_seconds": self.silence_seconds} if self.silences else {}
        return ({"shots": True} if self.shots else {}) | silence

    def cuts(self, row: Row) -> list[float]:
        """Where the row may be cut, in seconds from its start; decodes it whole, in bounded memory.

        One unusable stream of a file has no cuts, with a warning; raises MediaError where there is none to use.
        """
        spared: list[MediaError] = []
        shared = row.audio_path is not None and row.audio_path == row.video_path
        info = probe(row.audio_path) if shared and row.audio_path is not None else None
        both = info is not None and info.has_audio and info.has_video
        found: list[float] = []
        if self.shots and row.video_path is not None and (info is None or info.has_video):
            with sparing("video", spared) if both else nullcontext():
                found += shot_changes(row)
        if self.silences and row.audio_path is not None and (info is None or info.has_audio):
            with sparing("audio", spared) if both else nullcontext():
                found += quiet_places(row, self.silence_db, self.silence_seconds)
        if len(spared) == 2:
            raise spared[0]
        return sorted(set(found))

    def clips(self, row: Row, cuts: Sequence[float], duration: float) -> list[Clip]:
        """The row's clips; `measures["duration"]` of each is its length in seconds.

        Args:
            row: what is to be cut.
            cuts: of the row, as `cuts` gives them.
            duration: of the row, see `known_duration` and `probed_duration`.
        """
        start = row.start or 0.0
        times = self._times(cuts, duration)
        if len(times) == 2:
            return [Clip(row.id, row, measures={"duration": round(duration, 3)})]
        pairs = itertools.pairwise(times)
        return [_segment(row, round(start + first, 3), round(start + last, 3)) for first, last in pairs]

    def _times(self, cuts: Sequence[float], duration: float) -> list[float]:
        """Where segments begin and end, from 0 to the end, in whole milliseconds as they stand in ids."""
        shortest, longest, end = (
            math.floor(seconds * 1000 + 1e-6) for seconds in (self.min_seconds, self.max_seconds, duration)
        )
        kept = [0]
        for cut in sorted(math.floor(cut * 1000 + 1e-6) for cut in cuts):
            if cut - kept[-1] >= shortest and end - cut >= shortest:
                kept.append(cut)
        times = [0]
        for first, last in zip(kept, [*kept[1:], end], strict=True):
            parts = max(1, -((first - last) // longest))
            times += [first + (last - first) * part // parts for part in range(1, parts + 1)]
        return [time / 1000 for time in times]


def known_duration(row: Row) -> float | None:
    """Seconds of a row as its manifest has them: by `end`, or by a column `duration` where it has no `start`."""
    if row.end is not None:
        return row.end - (row.start or 0.0)
    said = row.extra.get("duration")
    return float(said) if not row.start and isinstance(said, int | float) and 0 < said < math.inf else None


def probed_duration(row: Row) -> float:
    """Seconds from the row's start to the end of its longest file. Raises MediaError."""
    places = dict.fromkeys(place for place in (row.audio_path, row.video_path) if place is not None)
    return max(probe(place).duration for place in places) - (row.start or 0.0)


def _segment(row: Row, start: float, end: float) -> Clip:
    """The part of a row between two times of its file; what is said of the whole row is not said of it."""
    length = round(end - start, 3)
    shift = start - (row.start or 0.0)
    events = tuple(
        Event(event.label, max(0.0, event.onset - shift), min(length, event.offset - shift), event.score, event.texts)
        for event in row.events
        if event.offset > shift and event.onset < shift + length
    )
    # A word that a cut goes through belongs to where more of it lies.
    words = tuple(
        Word(word.word, max(0.0, word.start - shift), min(length, word.end - shift))
        for word in row.words
        if shift <= (word.start + word.end) / 2 < shift + length
    )
    own = replace(
        row,
        id=f"{row.id}#{start:.3f}-{end:.3f}",
        start=start,
        end=end,
        captions={},
        plain=(),
        synthetic={},
        events=events,
        words=words,
        # Without the times of its words nobody knows what of a transcript is spoken here.
        transcript=None if row.transcript is None or not words else " ".join(word.word for word in words),
        extra=dict(row.extra) | ({"duration": length} if "duration" in row.extra else {}),
    )
    return Clip(own.id, own, measures={"duration": length})


def shot_changes(row: Row) -> list[float]:
    """Times at which a new shot begins, in seconds from the row's start.

    A frame begins one where it and the next differ from the two before (a flash differs for one frame), by far more
    than frames nearby do (as fast movement does).
    """
    assert row.video_path is not None
    times, steps = [], []
    before: list[np.ndarray] = []  # histograms of the last four frames
    for time, frame in _frames(row):
        times.append(time)
        before = [*before[-3:], _histograms(frame)]
        if len(before) == 4:
            older, old, new, later = before
            steps.append(min(_differ(old, new), _differ(old, later), _differ(older, new)))
    found = []
    for place, step in enumerate(steps):
        around = steps[max(0, place - NEARBY) : place] + steps[place + 1 : place + 1 + NEARBY]
        usual = float(np.mean(around or [0.0]))
        if step >= SHOT and step * step >= CONTRAST * usual and step >= max(around, default=0.0):
            found.append(max(0.0, times[place + 2] - (row.start or 0.0)))
    return found


def _frames(row: Row) -> Iterator[tuple[float, np.ndarray]]:
    """Every frame of the row, (SIDE, SIDE, 3), with its time in the file."""
    assert row.video_path is not None
    for _, frames in iter_frames(row.video_path, _pieces(row, PIECE), size=SIDE):
        yield from zip(frames.times.tolist(), frames.pixels, strict=True)


def _pieces(row: Row, seconds: float) -> list[Window]:
    start = row.start or 0.0
    end = row.end if row.end is not None else start + probed_duration(row)
    count = max(1, math.ceil((end - start) / seconds))
    return [Window(start + i * seconds, min(end, start + (i + 1) * seconds)) for i in range(count)]


def _histograms(frame: np.ndarray) -> np.ndarray:
    """(SIDE, SIDE, 3) uint8 -> (GRID * GRID, BINS) shares of the luma of each part."""
    luma = (frame @ np.array([0.299, 0.587, 0.114], np.float32) * (BINS / 256)).astype(int)
    part = SIDE // GRID
    parts = luma.reshape(GRID, part, GRID, part).transpose(0, 2, 1, 3).reshape(GRID * GRID, -1)
    marked = parts + BINS * np.arange(GRID * GRID)[:, None]
    counts = np.bincount(marked.ravel(), minlength=GRID * GRID * BINS).reshape(GRID * GRID, BINS)
    return counts / parts.shape[1]


def _differ(a: np.ndarray, b: np.ndarray) -> float:
    """0 to 1: how far the grays of each part moved (the earth mover's distance), where FAR levels is far; the mean."""
    # The plain difference of two histograms jumps when a slow change of light takes all pixels past a level.
    return float(np.minimum(np.abs(np.cumsum(a - b, axis=1)).sum(1) / FAR, 1.0).mean())


def quiet_places(row: Row, level: float, seconds: float) -> list[float]:
    """The middles of silences of at least so many seconds, from the row's start; not of those at its two ends."""
    assert row.audio_path is not None
    size = round(BLOCK * RATE)
    quiet: list[bool] = []
    for _, waveform in iter_audio(row.audio_path, _pieces(row, 100 * BLOCK), sampling_rate=RATE):
        blocks = np.pad(waveform, (0, -len(waveform) % size)).reshape(-1, size)
        quiet += (np.square(blocks).mean(1) < 10 ** (level / 10)).tolist()
    loud = np.flatnonzero(~np.array(quiet, bool))
    gaps = [(first + 1, last) for first, last in itertools.pairwise(loud)]
    return [float((first + last) / 2 * BLOCK) for first, last in gaps if (last - first) * BLOCK >= seconds - 1e-9]
