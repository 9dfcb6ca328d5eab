"""The streams that together are a file's sound or its pictures, those too that appear after the file was opened.

A broadcast that was joined from two may go on under new identifiers, and a live recording may get its pictures late:
FFmpeg finds such streams while it reads. Only formats whose timestamps may jump do this. They are read once, packets
alone, to learn what they hold; what was learned of a path is remembered.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

from peav.jobs import Version, version_of
from peav.media.clock import Clock, clocked, may_jump, must_be_read
from peav.media.source import Source, name_of, open_media, size_of
from peav.media.streams import BARE, chosen, nothing_in, ticks_of

REST = 1 << 16  # bytes that may lie behind the last packet of the known streams: tables, stuffing, the last sound
OVERLAP = 1.0  # seconds for which one stream of a track may still run when the next one has begun


@dataclass(frozen=True)
class Scan:
    """What reading a file once told."""

    late: bool
    """Whether streams appear that a usual look at its beginning does not find."""
    end: float
    """Where its last packet ends, in seconds on the file's timeline."""
    spans: dict[int, tuple[float, float]]
    """From when to when each stream goes."""
    unread: int
    """Bytes behind the last packet that was read."""


@contextmanager
def open_tracks(source: Source) -> Iterator[InputContainer]:
    """`open_media`, with all of the file's streams known."""
    with open_media(source) as container:
        if not (may_jump(container) and scan(source).late):
            yield container
            return
    with open_media(source, thorough=True) as container:
        yield container


def track(source: Source, container: InputContainer, stream: Any) -> list[Any]:
    """The streams, in order, of which one goes on where the one before it ends; `stream` is one of them."""
    others = [
        s for s in clocked(container) if s.type == stream.type and s.codec_context is not None and s is not stream
    ]
    if not others or not may_jump(container):
        return [stream]
    spans = scan(source).spans
    members = [stream]
    for other in sorted((s for s in others if s.index in spans), key=lambda s: spans[s.index]):
        first, end = spans[other.index]
        if all(first > spans[m.index][1] - OVERLAP or end < spans[m.index][0] + OVERLAP for m in members):
            members.append(other)
    return sorted(members, key=lambda s: spans[s.index])


def length(source: Source) -> float:
    """The same as `duration` of a source that is not open."""
    with open_tracks(source) as container:
        return duration(source, container)


def duration(source: Source, container: InputContainer) -> float:
    """Seconds from the start of an open file to the end of its longest stream. Raises a `MediaError` for none."""
    if container.duration and container.format.name not in BARE and not must_be_read(container):
        return _corrected(container, float(container.duration / av.time_base))
    end = scan(source).end
    if end <= 0:
        raise nothing_in(container, name_of(source))
    return end


def _corrected(container: InputContainer, seconds: float) -> float:
    """The header's length, or what the last packets show where it says too little."""
    clock = Clock(container)
    try:
        container.seek(round((seconds + clock.start) * av.time_base))
    except av.FFmpegError:
        return seconds
    for _ in clock.packets():
        pass
    return max(seconds, clock.end - clock.start)


def scan(source: Source) -> Scan:
    """Read all packets of `source`. Raises a `MediaError` where it cannot be opened."""
    if isinstance(source, str | os.PathLike):
        # Probing, sound and frames each ask; a file that was changed is read anew.
        return _scan_path(os.fspath(source), version_of(Path(source)))
    return _scan(source)


@lru_cache(maxsize=64)
def _scan_path(path: str, _version: Version) -> Scan:
    return _scan(path)


def _scan(source: Source) -> Scan:
    with open_media(source) as container:
        found = _read(source, container, late=False)
        late = found.unread > REST or any(_unknown(container, kind) for kind in ("audio", "video"))
    if not late:
        return found
    with open_media(source, thorough=True) as container:
        return _read(source, container, late=True)


def _read(source: Source, container: InputContainer, *, late: bool) -> Scan:
    clock, position = Clock(container), 0
    spans: dict[int, tuple[float, float]] = {}
    for packet in clock.packets(*clocked(container)):
        position = max(position, (packet.pos or 0) + packet.size)
        if packet.pts is not None:
            at = float(packet.pts * packet.time_base) - clock.start
            end = at + float(ticks_of(packet) * packet.time_base)
            first, last = spans.get(packet.stream_index, (at, end))
            spans[packet.stream_index] = min(first, at), max(last, end)
    return Scan(late, max(0.0, clock.end - clock.start), spans, max(0, size_of(source) - position))


def _unknown(container: InputContainer, kind: Any) -> bool:
    """Whether FFmpeg has found a stream of a kind of which PyAV knows none."""
    if chosen(container, kind) is not None:
        return False
    try:
        container.streams.best(kind)
    except IndexError:
        return True
    return False
