"""A partition's rows as clips: what has to be looked at to cut them is kept in its journal as every other answer is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from peav.data.manifest import Row
from peav.engine.clip import Answer, Clip
from peav.engine.journal import Journal
from peav.engine.partition import Partition
from peav.engine.segment import Segmenter, known_duration, probed_duration
from peav.engine.stage import request_key
from peav.features.keys import media_mark
from peav.inference.isolation import as_media, can_cross
from peav.media.source import fetched_both
from peav.utils.workers import End, Task, Workers

SEGMENT = "segment"
Look = Callable[[list[Row], Segmenter], Iterator[Answer | Exception]]


def look_at(rows: list[Row], segmenter: Segmenter) -> Iterator[Answer | Exception]:
    """Each row's length and cuts, or why there are none; decoded in a process that may die of it."""
    tasks = [
        Task(row.id, look, (row, segmenter), here=not all(map(can_cross, (row.audio_path, row.video_path))))
        for row in rows
    ]
    if not tasks:
        return
    with Workers(tasks, 1) as items:
        for _, item in items:
            if not isinstance(item, End):
                yield Answer(item)
            elif item.error is not None:
                yield as_media(item.error, item.label)


def clips_of(partition: Partition, segmenter: Segmenter, journal: Journal, looking: Look = look_at) -> list[Clip]:
    """The clips of all rows; one whose file cannot be looked at has failed. `looking` finds what no row says."""
    keys = {row.id: _key(row, segmenter) for row in partition.rows}
    todo = [row for row in partition.rows if keys[row.id] and keys[row.id] not in journal.lines]
    for row, found in zip(todo, looking(todo, segmenter), strict=True):
        journal.add(keys[row.id], row.id, SEGMENT, found)
    return [clip for row in partition.rows for clip in _clips(row, segmenter, journal.lines.get(keys[row.id]))]


def _clips(row: Row, segmenter: Segmenter, line: dict[str, Any] | None) -> list[Clip]:
    if line is None:
        duration = known_duration(row)
        assert duration is not None
        return segmenter.clips(row, [], duration)
    if "error" in line:
        return [Clip(row.id, row, failed=(SEGMENT, *line["error"]))]
    return segmenter.clips(row, line["value"]["cuts"], line["value"]["duration"])


def _key(row: Row, segmenter: Segmenter) -> str:
    """Of what has to be looked at; empty where the row itself says all."""
    if not segmenter.cuts_by and known_duration(row) is not None:
        return ""
    identity = json.dumps([SEGMENT, segmenter.cuts_by], sort_keys=True)
    return request_key(identity, {}, media_mark(row))


def look(row: Row, segmenter: Segmenter) -> Iterator[dict[str, Any]]:
    """A row's length in seconds and where it may be cut; runs in a worker."""
    audio, video = fetched_both(row.audio_path, row.video_path)
    row, known = replace(row, audio_path=audio, video_path=video), known_duration(row)
    cuts = segmenter.cuts(row) if segmenter.cuts_by else []
    yield {"duration": probed_duration(row) if known is None else known, "cuts": cuts}
