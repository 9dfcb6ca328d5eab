"""Decodes what a manifest's row names, here or in a worker process; loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from peav.errors import MediaError
from peav.inference.isolation import as_media, can_cross, limits_for
from peav.inference.sources import sparing
from peav.media import MediaInfo, load_audio, load_frames, probe
from peav.media.source import fetched_both
from peav.utils.storage import FilePart
from peav.utils.workers import End, Task, Workers

Place = Path | FilePart | None


@dataclass(frozen=True)
class Cut:
    """What to decode of a clip: `max_seconds` of it, `num_frames` frames of `image_size` pixels a side; None: all."""

    num_frames: int | None
    image_size: int
    max_seconds: float | None


@dataclass(frozen=True, eq=False)
class Decoded:
    """A clip's `waveform` (S,) float32 at 48 kHz and `frames` (N, size, size, 3) uint8; None: the stream is lacking."""

    waveform: np.ndarray | None
    frames: np.ndarray | None

    @property
    def nbytes(self) -> int:
        """Bytes that it holds in memory."""
        return sum(array.nbytes for array in (self.waveform, self.frames) if array is not None)


def decode(audio: Place, video: Place, start: float | None, end: float | None, cut: Cut) -> Decoded:
    """Decode a clip. A file's stream that cannot be used is lacking, with a warning, where its other one can be.

    Raises MediaError where there is nothing that can be used, or one of two files cannot be; StorageError.
    """
    audio, video = fetched_both(audio, video)
    start = start or 0.0
    if cut.max_seconds is not None:
        end = start + cut.max_seconds if end is None else min(end, start + cut.max_seconds)
    info = probe(audio) if audio is not None and audio == video else None
    waveform = frames = None
    spared: list[MediaError] = []
    both = info is not None and info.has_audio and info.has_video
    if audio is not None and (info is None or info.has_audio):
        with sparing("audio", spared) if both else nullcontext():
            waveform = load_audio(audio, start=start, end=end)
    if video is not None and (info is None or info.has_video):
        with sparing("video", spared) if both else nullcontext():
            frames = load_frames(video, num_frames=cut.num_frames, start=start, end=end, size=cut.image_size).pixels
    if len(spared) == 2:
        raise spared[0]
    return Decoded(waveform, frames)


def decode_task(audio: Place, video: Place, start: float | None, end: float | None, cut: Cut) -> Task:
    """The same as a task for a worker, of one item."""
    return _task(_decode, (audio, video, start, end, cut), (audio, video))


def decode_each(
    tasks: Iterable[Task], seconds: float | None, count: int | None = None
) -> Iterator[Decoded | MediaError]:
    """What each `decode_task` decodes, in their order, or why it cannot; in worker processes, ahead of who takes it.

    Args:
        seconds: the most that one decodes, which says how much processor time it may take; None: not known.
        count: of workers; None: one for each processor, at most four.
    """
    return _each(tasks, count, limits_for(seconds), attrgetter("nbytes"))


def probe_each(places: Iterable[Path | FilePart]) -> Iterator[MediaInfo | MediaError]:
    """`peav.media.probe` of each file in worker processes, in their order, or why it cannot be probed."""
    return _each(_task(_probe, (place,), (place,)) for place in places)


def _task(work: Callable[..., Iterator[Any]], arguments: tuple[Any, ...], places: Iterable[Place]) -> Task:
    """A task by the files that it reads: done in this process where one of them cannot cross to another."""
    there = [place for place in places if place is not None]
    here = not all(map(can_cross, there))
    return Task(str(next(iter(there), None)), work, arguments, here)


def _each(tasks: Iterable[Task], *how: Any) -> Iterator[Any]:
    """The one item of each task, or why it has none; `how` is what `Workers` takes beside the tasks."""
    with Workers(tasks, *how) as workers:
        yield from outcomes(workers)


def outcomes(workers: Workers) -> Iterator[Any]:
    """The one item of each task of workers, or why it has none, in their order."""
    for _, item in workers:
        if not isinstance(item, End):
            yield item
        elif item.error is not None:
            yield as_media(item.error, item.label)


def _decode(audio: Place, video: Place, start: float | None, end: float | None, cut: Cut) -> Iterator[Decoded]:
    yield decode(audio, video, start, end, cut)


def _probe(place: Path | FilePart) -> Iterator[MediaInfo]:
    yield probe(place)
