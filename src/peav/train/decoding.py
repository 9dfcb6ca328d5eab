"""Batches whose clips are decoded while training, and the clips that turn out to be unreadable on the way."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from peav.data.manifest import Row
from peav.distributed import ALONE, DistContext
from peav.errors import MediaError, RecipeError, TrainingError
from peav.features.extract import ClipFeatures
from peav.features.failures import FEW, IN_A_ROW, SHARE
from peav.features.keys import clip_key
from peav.features.live import Ahead, LiveFeatures, Outcome, Place
from peav.train.batches import Batches, Collate
from peav.utils.atomic import disk_errors, sync
from peav.utils.jsonl import read_lines, to_line
from peav.utils.storage import write_all

REPLACEMENTS = 5  # keeps their draws apart from others, see `batches.Batches`


@dataclass(frozen=True)
class Decode:
    """Clips are decoded while training, by `workers` processes beside each training process, ahead of the step.

    With 0 workers the training process decodes by itself: a file that crashes the decoder then ends the run.
    """

    workers: int = 2

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise RecipeError(f"data.decode.workers must be 0 (none) or above, not {self.workers}")


@dataclass(frozen=True)
class Seen:
    """What decoding a clip showed, as all processes are told: its streams, or its error's type and what that says."""

    audio: bool = False
    video: bool = False
    error: str = ""
    reason: str = ""


class UnreadableClips:
    """The clips that a run cannot read, each from the batch on that was the first to lack it.

    They stand in a file, and a clip is on the disk there before a step is taken without it. So a batch is a function of
    its number and the list: a run that goes on reads it, tries none of these clips again, and has the batches that it
    had.

    Args:
        path: of the file, which the first process alone reads and writes.
        total: how many training clips there are.
        dist: the processes that know the list.
        resume: keep what the file holds; else it is removed.

    Attributes:
        known: by the key of a clip (`features.keys.clip_key`) the first batch that lacks it.
    """

    def __init__(self, path: Path, total: int, dist: DistContext = ALONE, resume: bool = True) -> None:
        self.path, self.total, self.dist = path, total, dist
        self.known: dict[str, int] = {}
        self._in_a_row = 0
        if dist.is_main and not resume:
            path.unlink(missing_ok=True)
        lines = [line for line in read_lines(path) if "clip" in line] if dist.is_main else []
        if lines:
            write_all(path, b"".join(map(to_line, lines)))  # without the line that a kill may have torn
        for clip, number in json.loads(dist.gather_text(json.dumps([(x["clip"], x["batch"]) for x in lines]))[0]):
            self.known[clip] = min(number, self.known.get(clip, number))

    def has(self, row: Row, number: int) -> bool:
        """Whether a clip is not to be tried for batch `number`."""
        return bool(self.known) and self.known.get(clip_key(row), number + 1) <= number

    def note(self, number: int, size: int, tried: Sequence[tuple[Row | None, Seen]]) -> bool:
        """Add those that cannot be read of the clips `tried` for batch `number`, of `size`; whether there were any.

        All processes call it with the same. Of a clip that can be read no row is needed.

        Raises:
            TrainingError: 100 in a row cannot be read, or more than both 20 and 5 % of the clips drawn so far.
        """
        failed = {clip_key(row): (row, seen) for row, seen in tried if row is not None and seen.error}
        if failed:
            if self.dist.is_main:
                self._write(_line(row, seen, clip, number) for clip, (row, seen) in failed.items())
            self.dist.barrier()  # until it is on the disk
            self.known |= dict.fromkeys(failed, number)
        for row, seen in tried:
            self._in_a_row = self._in_a_row + 1 if seen.error else 0
            if self._in_a_row == IN_A_ROW:
                assert row is not None
                raise self._too_many(f"{IN_A_ROW} clips in a row", row, seen)
        drawn = min(self.total, (number + 1) * size)
        known = sum(first <= number for first in self.known.values())  # a run that was cut off may have been farther
        if failed and known > max(FEW, SHARE * drawn):
            share = f"{known} clips, more than {SHARE:.0%} of those drawn so far,"
            raise self._too_many(share, *list(failed.values())[-1])
        return bool(failed)

    def _write(self, lines: Iterable[Mapping[str, Any]]) -> None:
        with disk_errors(self.path), self.path.open("ab") as file:
            file.write(b"".join(map(to_line, lines)))
            file.flush()
            os.fsync(file.fileno())
        sync(self.path.parent)

    def _too_many(self, count: str, row: Row, seen: Seen) -> TrainingError:
        return TrainingError(
            f"{count} cannot be read, the last being {row.id}: {seen.error}: {seen.reason}; all are in {self.path}: "
            "repair them and begin anew (a run that goes on tries none of these), or take them out of the data"
        )


def _line(row: Row, seen: Seen, clip: str, number: int) -> dict[str, Any]:
    """A line of `failures.jsonl`, with the clip's key and the batch."""
    path = str(row.audio_path or row.video_path)
    return {"path": path, "error": seen.error, "reason": seen.reason, "id": row.id, "clip": clip, "batch": number}


class DecodingStream(Batches):
    """Batches that are decoded while training, each a function of (seed, number) and the list of unreadable clips.

    Worker processes are at work on the clips of the batches to come. A clip that cannot be read is replaced by another
    of its source, drawn by (seed, k, place, attempt). Processes tell each other what they have seen of a batch before
    captions are drawn, so that all know the same rows.

    Args:
        live: decodes; for the others see `Batches`.
        dist: with a group of processes for this alone, since batches are loaded in a thread.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[Row]],
        weights: Sequence[float],
        batch_size: int,
        seed: int,
        live: LiveFeatures,
        collate: Collate,
        unreadable: UnreadableClips,
        dist: DistContext = ALONE,
    ) -> None:
        super().__init__(sources, weights, batch_size, seed, live, collate, dist)
        self.live, self.unreadable = live, unreadable
        self._ahead: Ahead | None = None
        self._next = 0

    def batch(self, number: int) -> Any:
        """The collated batch of this number, counted from 0.

        Raises:
            TrainingError: see `UnreadableClips.note`.
        """
        ahead = self._from(number)
        read: set[int] = set()
        while True:
            rows = self._rows(number, self.told)
            clips = [ahead.take((number, place), rows[place]) for place in self.places]
            seen = self._of_all(clips)
            tried = [place for place in range(self.size) if seen[place].error or place not in read]
            read.update(tried)
            named = rows | self._rows(number, [place for place in tried if seen[place].error and place not in rows])
            if not self.unreadable.note(number, self.size, [(named.get(place), seen[place]) for place in tried]):
                break
        ahead.drop(number)
        streams = {place: row.with_streams(seen[place].audio, seen[place].video) for place, row in rows.items()}
        return self.collated(number, streams, [clip for clip in clips if isinstance(clip, ClipFeatures)])

    def ids(self, number: int) -> list[str]:
        """The ids of the clips of a batch, in its order."""
        return [row.id for row in self._rows(number, range(self.size)).values()]

    @property
    def queue(self) -> int | None:
        """How many decoded clips of this process wait for their batch."""
        return None if self._ahead is None else self._ahead.ready

    def close(self) -> None:
        """End the workers."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _from(self, number: int) -> Ahead:
        """What decodes from batch `number` on: mostly it does so already."""
        if self._ahead is None or number != self._next:
            self.close()
            self._ahead = Ahead(self.live, self._plan(number))
        self._next = number + 1
        return self._ahead

    def _plan(self, number: int) -> Iterator[tuple[Place, Row]]:
        """This process's clips of all batches from this one on, without those that are known to be unreadable."""
        for later in count(number):
            for place, row in self._rows(later, self.places).items():
                yield (later, place), row

    def _rows(self, number: int, places: Iterable[int]) -> dict[int, Row]:
        """The clips in some places of a batch, as far as is known which can be read."""
        sampled = self.sampler.batch(number)
        return {place: self._readable(number, place, *sampled[place]) for place in places}

    def _readable(self, number: int, place: int, source: int, index: int) -> Row:
        """The clip that was drawn, or the one that takes its place."""
        rows = self.sources[source]
        for attempt in range(IN_A_ROW):
            row = rows[index]
            if not self.unreadable.has(row, number):
                return row
            rng = np.random.default_rng((self.seed, REPLACEMENTS, number, place, attempt))
            index = int(rng.integers(len(rows)))
        raise TrainingError(
            f"{IN_A_ROW} clips that were drawn in the place of {row.id} cannot be read; see {self.unreadable.path}"
        )

    def _of_all(self, clips: Sequence[Outcome]) -> list[Seen]:
        """What all processes have seen of a batch, by place."""
        own = [_seen(clip) for clip in clips]
        said = [
            json.loads(text) for text in self.dist.gather_text(json.dumps([list(vars(one).values()) for one in own]))
        ]
        # Process r has places r, r + world_size, ...
        return [Seen(*said[place % self.dist.world_size][place // self.dist.world_size]) for place in range(self.size)]


def _seen(clip: Outcome) -> Seen:
    if isinstance(clip, MediaError):
        return Seen(error=type(clip).__name__, reason=str(clip))
    return Seen(clip.waveform is not None, clip.frames is not None)
