"""Clips decoded when they are wanted: nothing is stored, codec and frame encoder run in the step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter

from peav.data.manifest import Row
from peav.errors import MediaError
from peav.features.decode import Decoded, decode_task, outcomes
from peav.features.extract import ClipFeatures, FeatureExtractor
from peav.features.keys import clip_key
from peav.inference.isolation import as_media, limits_for
from peav.media import pad_to_hop, probe
from peav.model import PEAV
from peav.utils.workers import Task, Workers

Place = tuple[int, int]
"""The number of a batch, and a place in it."""
Outcome = ClipFeatures | MediaError


class LiveFeatures:
    """Decodes clips to waveforms (S,) float32 and pixels; takes the place of a `FeatureCache` and stores nothing.

    Args:
        model: supplies the shapes.
        max_seconds: clips longer than this keep their first `max_seconds`.
        workers: processes that decode; 0: this one does.
    """

    def __init__(self, model: PEAV, max_seconds: float, workers: int) -> None:
        self.cut = FeatureExtractor(model, max_seconds=max_seconds).cut
        self.hop, self.max_seconds, self.workers = model.config.audio.codec.hop_length, max_seconds, workers
        self._streams: dict[str, tuple[bool, bool]] = {}

    def in_batches(self, rows: Sequence[Row], size: int) -> Iterator[tuple[list[Row], list[ClipFeatures]]]:
        """Those of the clips that can be read, `size` at a time, and what they hold."""
        found = zip(rows, Decoding(self, rows) if rows else (), strict=True)
        read = ((row, clip) for row, clip in found if not isinstance(clip, MediaError))
        while some := list(islice(read, size)):
            yield [row for row, _ in some], [clip for _, clip in some]

    def streams(self, row: Row) -> tuple[bool, bool]:
        """Whether a clip has audio and video, as its file's header says; neither where it cannot be read."""
        place = row.audio_path or row.video_path
        if row.audio_path != row.video_path or place is None:
            return row.audio_path is not None, row.video_path is not None
        if (key := clip_key(row)) not in self._streams:
            try:
                info = probe(place)
                self._streams[key] = info.has_audio, info.has_video
            except MediaError:
                self._streams[key] = False, False
        return self._streams[key]

    def of_decoded(self, clip: Decoded) -> ClipFeatures:
        """A decoded clip, its sound padded to whole latents."""
        waveform = None if clip.waveform is None else pad_to_hop(clip.waveform, self.hop)
        return ClipFeatures(waveform=waveform, frames=clip.frames)


class Decoding:
    """Iterates over what clips hold, or why they cannot be read, in the order of `rows`; decoded ahead by workers."""

    def __init__(self, live: LiveFeatures, rows: Iterable[Row]) -> None:
        self.live = live
        tasks = (decode_task(row.audio_path, row.video_path, row.start, row.end, live.cut) for row in rows)
        self._workers: Workers | None = None
        found: Iterator[Decoded | MediaError]
        if live.workers:
            self._workers = Workers(tasks, live.workers, limits_for(live.max_seconds), attrgetter("nbytes"))
            found = outcomes(self._workers)
        else:
            found = map(_here, tasks)
        self._found = found

    def __iter__(self) -> Iterator[Outcome]:
        return self

    def __next__(self) -> Outcome:
        found = next(self._found)
        return found if isinstance(found, MediaError) else self.live.of_decoded(found)

    @property
    def ready(self) -> int:
        """How many decoded clips wait to be taken."""
        return 0 if self._workers is None else self._workers.ready

    def close(self) -> None:
        """End the workers."""
        if self._workers is not None:
            self._workers.close()


def _here(task: Task) -> Decoded | MediaError:
    assert callable(task.function)
    try:
        (decoded,) = task.function(*task.arguments)
        return decoded
    except Exception as error:  # as in a worker
        return as_media(error, task.label)


@dataclass(frozen=True)
class _Held:
    """What became of a clip, which is named by its key."""

    clip: str
    outcome: Outcome


class Ahead:
    """Decodes the clips of a plan ahead of who takes them, in its order; those that take others' places in between.

    Args:
        plan: what will be taken, of which only as much is read as is decoded ahead. It is asked in other threads.
    """

    def __init__(self, live: LiveFeatures, plan: Iterable[tuple[Place, Row]]) -> None:
        self._plan = iter(plan)
        self._sooner: deque[tuple[Place, Row]] = deque()
        self._asked: deque[tuple[Place, str]] = deque()  # of the decoder, in its order
        self._held: dict[Place, _Held] = {}
        self._decoding = Decoding(live, self._rows())

    def _rows(self) -> Iterator[Row]:
        while one := self._sooner.popleft() if self._sooner else next(self._plan, None):
            place, row = one
            self._asked.append((place, clip_key(row)))
            yield row

    def take(self, place: Place, row: Row) -> Outcome:
        """What `row` holds, or why it cannot be read.

        The plan must have had some clip at this place. Where it was another one, `row` is decoded next.
        """
        wanted, asked = clip_key(row), False
        while True:
            held = self._held.get(place)
            if held is not None and held.clip == wanted:
                return held.outcome
            if held is not None and not asked:
                self._sooner.append((place, row))
                asked = True
            outcome = next(self._decoding)
            place_of, clip = self._asked.popleft()
            self._held[place_of] = _Held(clip, outcome)

    def drop(self, number: int) -> None:
        """Let go of the clips of a batch."""
        self._held = {place: held for place, held in self._held.items() if place[0] != number}

    @property
    def ready(self) -> int:
        """How many decoded clips wait for their batch."""
        return len(self._held) + self._decoding.ready

    def close(self) -> None:
        """End the workers."""
        self._decoding.close()
