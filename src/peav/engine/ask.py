"""Clips through the stages, batch by batch: what the journal knows is applied, the rest is asked and kept at once."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from peav.engine.clip import Answer, Clip, Sample
from peav.engine.journal import Journal
from peav.engine.stage import Stage, StopAsking, identity_of, request_key
from peav.errors import StorageError
from peav.features.decode import Cut, Decoded, decode_each, decode_task
from peav.features.keys import media_mark

CLIPS = 16  # whose media are in memory at a time
CUT = Cut(num_frames=16, image_size=336, max_seconds=None)
DECODE = "decode"  # the stage of a file that cannot be decoded


def answer_key(stage: Stage, identity: str, clip: Clip, mark: str) -> str | None:
    """What a stage's answer about a clip is kept under; None where it is not asked."""
    request = stage.request(clip)
    return None if request is None else request_key(identity, request, mark * bool(stage.needs))


def decode_key(mark: str) -> str:
    """What an error of decoding is kept under."""
    return f"{DECODE} {mark}"


class _Item:
    """A clip on its way: how far it has come, and what tells its media from others'."""

    def __init__(self, clip: Clip) -> None:
        self.clip, self.place = clip, 0
        self.keys: dict[int, str | None] = {}  # by the stage's place: a clip is no other one when a stage asks again
        self.sample = Sample(clip)
        self.mark = media_mark(clip.row)


@dataclass
class Asker:
    """Takes the clips of one partition through stages.

    Args:
        stages: in their order; each is set up before it is first asked.
        journal: of the partition.
        hand: a file that says what is being asked, so that who finds this process dead knows what it died of.
        alone: keys of requests that are made one at a time, since a process died with them in hand.

    Attributes:
        asked, known: by stage, how many clips it was asked about, and how many answers the journal had.
    """

    stages: Sequence[Stage]
    journal: Journal
    hand: Path
    alone: Collection[str] = ()
    asked: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._identities = [identity_of(stage) for stage in self.stages]
        self._note: int | None = None  # the open file `hand`: to make it anew for each batch costs a tenth of a row

    def run(self, clips: Sequence[Clip]) -> Iterator[int]:
        """Takes all clips as far as they come; yields how many more are through, batch by batch.

        Raises:
            StopAsking: a stage cannot go on with any clip; what was answered is kept.
            StorageError: the clips' storage fails.
        """
        items = [_Item(clip) for clip in clips]
        todo = [item for item in items if not self._replay(item)]
        yield len(items) - len(todo)
        media = any(stage.needs for item in todo for stage in self.stages[item.place :])
        try:
            with closing(self._decoded(todo)) as decoded:
                while batch := list(islice(decoded, CLIPS if media else None)):
                    for place in range(len(self.stages)):
                        self._step(place, [item for item in batch if item.place <= place])
                    yield len(batch)
        finally:
            if self._note is not None:
                os.close(self._note)
                self._note = None
            self.hand.unlink(missing_ok=True)

    def _replay(self, item: _Item) -> bool:
        """Apply what the journal knows, as far as it goes; whether that is all."""
        apply_line(self.journal.lines.get(decode_key(item.mark)), item.clip, None)
        for item.place, stage in enumerate(self.stages):
            if not item.clip.open:
                return True
            if not self._answered(item, item.place, stage):
                return False
        return True

    def _answered(self, item: _Item, place: int, stage: Stage) -> bool:
        """Whether a stage has nothing to ask about a clip, or the answer is known and now applied."""
        if not stage.journaled:
            ready(stage)
        try:
            if not stage.journaled:
                if stage.request(item.clip) is not None:
                    work_out(stage, item.clip)
                return True
            key = self._key(item, place)
        except Exception as error:  # what a stage makes of one clip never costs the job
            item.clip.failed = _failed(stage, error)
            return True
        line = None if key is None else self.journal.lines.get(key)
        if line is not None:
            self.known[stage.name] += 1
            apply_line(line, item.clip, stage)
        return key is None or line is not None

    def _key(self, item: _Item, place: int) -> str | None:
        if place not in item.keys:
            item.keys[place] = answer_key(self.stages[place], self._identities[place], item.clip, item.mark)
        return item.keys[place]

    def _decoded(self, todo: Sequence[_Item]) -> Generator[_Item, None, None]:
        """Each clip with its media, where a stage that lies before it needs them; decoded ahead."""
        needs = [frozenset[str]().union(*(stage.needs for stage in self.stages[item.place :])) for item in todo]
        tasks = (_decode(item.clip, need) for item, need in zip(todo, needs, strict=True) if need)
        media = decode_each(tasks, None, 1) if any(needs) else iter(())
        for item, need in zip(todo, needs, strict=True):
            found = next(media) if need else None
            if isinstance(found, Decoded):
                item.sample = Sample(item.clip, found)
            elif found is not None:
                self._keep(decode_key(item.mark), item.clip, None, found)
            yield item

    def _step(self, place: int, items: Sequence[_Item]) -> None:
        """Have one stage's answers for a batch, from the journal or from the stage itself."""
        stage = self.stages[place]
        open_ = [item for item in items if item.clip.open and not self._answered(item, place, stage)]
        asked: dict[str, _Item] = {}
        for item in open_:
            asked.setdefault(self._key(item, place) or "", item)  # what two clips ask alike is asked once
        apart = [[one] for one in asked.items() if one[0] in self.alone]
        together = iter([one for one in asked.items() if one[0] not in self.alone])
        while batch := apart.pop() if apart else list(islice(together, stage.batch_size)):
            self._ask(stage, dict(batch))
        for item in set(open_).difference(asked.values()):
            self._answered(item, place, stage)

    def _ask(self, stage: Stage, batch: dict[str, _Item]) -> None:
        ready(stage)  # what is wrong with a model is wrong with the job, not with a clip
        self._take_in_hand(stage, batch)
        self.asked[stage.name] += len(batch)
        items = list(batch.items())
        before = time.perf_counter()
        for place, answer in _answers(stage, [item.sample for _, item in items]):
            key, item = items[place]
            now = time.perf_counter()
            self._keep(key, item.clip, stage, answer, now - before)  # all of a batch together took what it took
            before = now

    def _take_in_hand(self, stage: Stage, batch: dict[str, _Item]) -> None:
        note = {"stage": stage.name, "clips": [[item.clip.id, key] for key, item in batch.items()]}
        if self._note is None:
            self._note = os.open(self.hand, os.O_WRONLY | os.O_CREAT, 0o666)
        os.ftruncate(self._note, 0)
        os.pwrite(self._note, json.dumps(note).encode(), 0)

    def _keep(
        self, key: str, clip: Clip, stage: Stage | None, answer: Answer | Exception, seconds: float = 0.0
    ) -> None:
        self.journal.add(key, clip.id, stage.name if stage else DECODE, answer, seconds)
        apply_line(self.journal.lines[key], clip, stage)


def apply_line(line: Mapping[str, Any] | None, clip: Clip, stage: Stage | None) -> None:
    """Write on a clip what a journal's line says, if there is one; a failure needs no stage."""
    if line is not None and "error" in line:
        clip.failed = (line["stage"], *line["error"])
    elif line is not None:
        assert stage is not None
        try:
            stage.apply(clip, line["value"])
        except Exception as error:  # an answer that its own stage cannot use
            clip.failed = _failed(stage, error)


_READY: dict[int, Stage] = {}  # keeps them, so that no other stage gets the same number


def ready(stage: Stage) -> None:
    """Set a stage up, once in a process."""
    if id(stage) not in _READY:
        stage.setup()
        _READY[id(stage)] = stage


def _answers(stage: Stage, samples: Sequence[Sample]) -> Iterator[tuple[int, Answer | Exception]]:
    """A stage's answers, each once. Whatever else it raises costs the clips without an answer, never the job.

    Raises StopAsking, StorageError.
    """
    waiting = set(range(len(samples)))
    failed: Exception = RuntimeError("it gave no answer")
    try:
        for place, answer in stage(samples):
            if isinstance(answer, StorageError):  # of one that opens the clips' files itself
                raise answer
            waiting.remove(place)
            yield place, answer
    except (StopAsking, StorageError):
        raise
    except Exception as error:
        failed = error
    yield from ((place, failed) for place in sorted(waiting))


def work_out(stage: Stage, clip: Clip) -> None:
    """The answer of a stage that is not journaled, applied at once."""
    ready(stage)
    for _, answer in stage([Sample(clip)]):
        if isinstance(answer, Answer):
            stage.apply(clip, answer.value)
        else:
            clip.failed = _failed(stage, answer)


def _failed(stage: Stage, error: Exception) -> tuple[str, str, str]:
    return stage.name, type(error).__name__, " ".join(str(error).split())


def _decode(clip: Clip, need: frozenset[str]) -> Any:
    row = clip.row
    audio, video = "audio" in need and row.audio_path, "video" in need and row.video_path
    return decode_task(audio or None, video or None, row.start, row.end, CUT)
