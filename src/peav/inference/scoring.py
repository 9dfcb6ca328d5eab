"""Frame scores of many files: decoded in worker processes, and gone on with within a file after any end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from peav.errors import MediaError
from peav.inference.isolation import as_media, audio_task, limits_for
from peav.inference.streaming import SECONDS_AT_ONCE, FrameStream
from peav.jobs import Pace, Version
from peav.media.find import unwritable
from peav.utils.atomic import atomic_write
from peav.utils.progress import bar
from peav.utils.workers import End, Workers

Scored = tuple[np.ndarray, float]
"""Probabilities (labels, T) float32 of a file, and its duration in seconds."""


class Unfinished:
    """How far the file in hand has come, on the disk every few seconds: a recording of hours goes on where it was."""

    def __init__(self, path: Path, settings: str, versions: Mapping[Path, Version], resume: bool) -> None:
        self.path, self.settings, self.versions, self.pace = path, settings, versions, Pace()
        self.found: dict[str, Any] = {}
        if not resume:
            self.clear()
        elif path.exists():
            self.found = torch.load(path, weights_only=True)  # a pickle could run code

    def of(self, path: Path) -> dict[str, Any] | None:
        """What is kept of this version of a file: `blocks` pushed, `scores` settled, the stream's `state`."""
        known = self.found.get("version"), self.found.get("settings")
        return self.found if known == (list(self.versions[path]), self.settings) else None

    def keep(self, path: Path, blocks: int, scores: list[np.ndarray], stream: FrameStream) -> None:
        """Write it, if it is time."""
        if self.pace.due():
            settled = torch.from_numpy(np.concatenate(scores, axis=1))
            about = {
                "version": list(self.versions[path]),
                "settings": self.settings,
                "blocks": blocks,
                "scores": settled,
            }
            with atomic_write(self.path) as temporary:
                torch.save(about | {"state": stream.state()}, temporary)

    def clear(self) -> None:
        """The file is done."""
        self.path.unlink(missing_ok=True)


def score_files(
    stream: Callable[[], FrameStream],
    paths: Sequence[Path],
    sampling_rate: int,
    unfinished: Unfinished | None = None,
    *,
    show_progress: bool = False,
) -> Iterator[tuple[Path, Scored | MediaError]]:
    """Each file's scores, or the error that it gave, in order.

    Args:
        stream: makes a new stream for a file, of the windows for recordings.
        sampling_rate: of the model, in Hz.
        unfinished: keeps how far a file has come, and knows how far one had.
    """
    good = [path for path in paths if unwritable(path) is None]
    known = {path: found for path in good if unfinished and (found := unfinished.of(path))}
    skip = {path: found["blocks"] for path, found in known.items()}
    tasks = (audio_task(path, SECONDS_AT_ONCE, sampling_rate, skip.get(path, 0)) for path in good)
    with (
        bar(show_progress) as progress,
        Workers(tasks, limits=limits_for(SECONDS_AT_ONCE), size=lambda block: block.nbytes) as items,
    ):
        blocks = groupby(items, key=lambda item: item[0])
        for path in progress.track(paths, description="listening"):
            if (error := unwritable(path)) is not None:
                yield path, error
                continue
            _, own = next(blocks)
            try:
                scored = _score(stream(), path, (block for _, block in own), known.get(path), unfinished)
            except MediaError as failed:
                for _ in own:  # the next file's blocks come after them
                    pass
                yield path, failed
                continue
            yield path, scored


def _score(
    stream: FrameStream,
    path: Path,
    blocks: Iterable[np.ndarray | End],
    known: Mapping[str, Any] | None,
    unfinished: Unfinished | None,
) -> Scored:
    """The scores of one file. Raises the MediaError that ended its decoding."""
    scores, count = [np.empty((len(stream.labels), 0), np.float32)], 0
    if known is not None:
        stream.resume(known["state"])
        scores, count = [known["scores"].numpy()], known["blocks"]
    for block in blocks:
        if isinstance(block, End):
            if block.error is not None:
                raise as_media(block.error, str(path))
            continue
        scores.append(stream.push(block))
        count += 1
        if unfinished is not None:
            unfinished.keep(path, count, scores, stream)
    return np.concatenate([*scores, stream.finish()], axis=1), stream.duration
