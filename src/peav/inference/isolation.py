"""Decoding in worker processes: a file that crashes its decoder, hangs or eats memory costs itself alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from peav.errors import DecoderCrashError, DecodingMemoryError, DecodingTimeoutError, MediaError, StorageError
from peav.inference.sources import Finished, Item, MediaWindow, WindowReader, name_of
from peav.media import iter_audio
from peav.types import DecodeFailure
from peav.utils.storage import FilePart
from peav.utils.workers import End, Task, TaskLimits, WorkerFailure, Workers

_KINDS = {"crash": DecoderCrashError, "time": DecodingTimeoutError, "memory": DecodingMemoryError}
CPU_SECONDS = 10.0  # of processor time for each second of media: no good file needs as much


class IsolatedReader:
    """`WindowReader.read` in worker processes: iterates over the same windows in the same order, and a `Finished` after
    each input that was read to its end.

    Paths, bytes, parts of archives and mappings of these are decoded in a worker; arrays, tensors and file objects,
    which cannot be handed over cheaply, in a thread of this process. Any exception is a `DecodeFailure` in its input's
    place: what is no `MediaError` becomes a `DecoderCrashError`, a worker that had to be killed one of the kind that
    says why. Only a `StorageError`, which says nothing of the input, is raised.

    Args:
        reader: how to decode.
        sources: the inputs; may be any iterable.
        done: for an input's place in `sources`, the starts of windows that are not wanted, since they are known.
        workers: None: one for each processor, at most four.
    """

    def __init__(
        self,
        reader: WindowReader,
        sources: Iterable[Any],
        sampling_rate: int | None = None,
        *,
        done: Callable[[int], Collection[float]] = lambda index: (),
        workers: int | None = None,
        limits: TaskLimits | None = None,
    ) -> None:
        tasks = (_task(reader, i, source, sampling_rate, done(i)) for i, source in enumerate(sources))
        self.workers = Workers(tasks, workers, limits or limits_for(reader.window), size=lambda clip: clip.nbytes)

    def __enter__(self) -> IsolatedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        self.workers.close()

    def __iter__(self) -> Iterator[Item]:
        for index, item in self.workers:
            if not isinstance(item, End):
                yield item
            elif item.error is None:
                yield Finished(index, item.label)
            else:
                yield DecodeFailure(index, item.label, as_media(item.error, item.label))


def _task(reader: WindowReader, index: int, source: Any, sampling_rate: int | None, done: Collection[float]) -> Task:
    arguments = (reader, index, source, sampling_rate, frozenset(done))
    return Task(name_of(source, index), decode_clips, arguments, here=not can_cross(source))


def audio_task(path: Path, seconds: float, rate: int, skip: int = 0) -> Task:
    """Decodes a file's sound in a worker, to blocks (S,) of `seconds`, without the first `skip` of them."""
    return Task(str(path), decode_audio, (path, seconds, rate, skip))


def decode_audio(path: Path, seconds: float, rate: int, skip: int) -> Iterator[np.ndarray]:
    """See `audio_task`; all is decoded, so that what follows is the same bit for bit."""
    for place, (_, block) in enumerate(iter_audio(path, seconds, sampling_rate=rate)):
        if place >= skip:
            yield block


def decode_clips(
    reader: WindowReader, index: int, source: Any, sampling_rate: int | None, done: Collection[float]
) -> Iterator[MediaWindow]:
    """The windows of one input but for those that start at `done`; runs in a worker.

    Those are decoded all the same: what follows is then the same bit for bit, whatever the file's timestamps do.
    """
    for clip in reader.clips(index, source, sampling_rate):
        if clip.start not in done:
            yield clip


def can_cross(source: Any) -> bool:
    """Whether an input can be handed to another process at little cost."""
    if isinstance(source, Mapping):
        return all(value is None or can_cross(value) for value in source.values())
    if isinstance(source, FilePart):
        return not source.path.startswith("memory://")  # fsspec's own, which each process has for itself
    return isinstance(source, str | bytes | Path)


def limits_for(seconds: float | None) -> TaskLimits:
    """The environment's limits, or ours with processor time for windows of so many seconds."""
    limits = TaskLimits.from_environment()
    if "PEAV_DECODE_CPU_SECONDS" in os.environ:
        return limits
    # Without windows an input may be as long as a tower takes, 400 s.
    return TaskLimits(60.0 + CPU_SECONDS * (400.0 if seconds is None else seconds), limits.idle_seconds, limits.memory)


def as_media(error: Exception, name: str) -> MediaError:
    """What to list against a file for any error that decoding it gave.

    Raises StorageError, where it is one: it says nothing of the file.
    """
    if isinstance(error, StorageError):
        raise error
    if isinstance(error, MediaError):
        return error
    if isinstance(error, WorkerFailure):
        fix = "convert the file, or leave it out"
        if error.kind == "memory":
            fix = "convert the file, or allow more with PEAV_DECODE_MEMORY (bytes)"
        return _KINDS[error.kind](f"{name}: decoding it failed: {error}; {fix}")
    where = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    return DecoderCrashError(
        f"{name}: decoding it failed with {type(error).__name__}: {error}{where}; convert the file, or leave it out"
    )
