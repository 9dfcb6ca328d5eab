"""When each frame of a video is shown, and the least decoding that gives some of them."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from peav.errors import NoVideoStreamError
from peav.media.clock import PREROLL, SEEK_FROM, Clock, must_be_read, seconds
from peav.media.joined import sections
from peav.media.limits import check_duration
from peav.media.source import Source, name_of
from peav.media.streams import HOLE, Decoder, ticks_of, video_stream
from peav.media.tracks import length, open_tracks, track
from peav.media.truncation import promised_end, warn_if_truncated
from peav.media.windows import Window

THREADS = min(4, os.cpu_count() or 1)  # more gain little on one file, and cost much where many files are decoded


class MissingFrameError(Exception):
    """A frame that the packets promised did not come out of the decoder."""


@dataclass(frozen=True)
class Schedule:
    """The frames of a video, or of a part of it, in the order in which they are shown."""

    times: NDArray[np.float64]
    """(n,) seconds on the file's timeline."""
    end: float
    """When the last frame is gone."""
    pts: list[int] | None = None
    """The frames' timestamps; None where frames can only be told by counting what the decoder gives."""
    packet: list[int] | None = None
    """Which packet holds each frame, counted from where the reading starts."""
    key: list[int] | None = None
    """The packet from which decoding must start for each frame."""
    seek: int | None = None
    """The timestamp sought before reading; None: read from the beginning."""


@dataclass(frozen=True)
class JoinedSchedule:
    """That of files that follow each other: each begins where the one before it ends."""

    times: NDArray[np.float64]
    end: float
    parts: list[tuple[Source, Schedule]]


def schedule(source: Source, span: Window, *, by_decoding: bool = False) -> Schedule | JoinedSchedule:
    """The frames that `span` may need. Reads packets only, unless they do not tell or `by_decoding` is set.

    Raises a `MediaError` where there is no video; warns where it is truncated.
    """
    parts = sections(source)
    if len(parts) == 1:
        return _schedule(source, span, by_decoding=by_decoding)
    begin = end = 0.0
    times: list[NDArray[np.float64]] = []
    plans: list[tuple[Source, Schedule]] = []
    for part in parts:
        lasts, last = length(part), part is parts[-1]
        if begin < span.end and (begin + lasts > span.start or (last and not plans)):
            own = Window(max(0.0, span.start - begin), span.end - begin)
            try:
                plan = _schedule(part, own, by_decoding=by_decoding)
            except NoVideoStreamError:
                if last and not plans:
                    raise
            else:
                times.append(plan.times + begin)
                plans.append((part, plan))
                end = begin + plan.end
        begin += lasts
    return JoinedSchedule(np.concatenate(times), end, plans)


def _schedule(source: Source, span: Window, *, by_decoding: bool) -> Schedule:
    if not by_decoding:
        # By a seek, else from the beginning, else by decoding: each costs more than the one before and tells more.
        for seek in (True, False) if span.start >= SEEK_FROM else (False,):
            with open_tracks(source) as container:
                plan = _by_packets(source, container, span, seek)
            if plan is not None:
                return plan
    return _by_frames(source, span, again=by_decoding)


def decode(
    source: Source, plan: Schedule | JoinedSchedule, wanted: list[int]
) -> Generator[tuple[int, Any], None, None]:
    """Yield `(index, frame)` for the sorted indices `wanted` of the plan's frames.

    Raises `MissingFrameError` where the plan was made from packets and the decoder does not keep their promise.
    """
    if not wanted:
        return
    if isinstance(plan, JoinedSchedule):
        first = 0
        for part, own in plan.parts:
            inside = [index - first for index in wanted if 0 <= index - first < len(own.times)]
            yield from ((first + index, frame) for index, frame in decode(part, own, inside))
            first += len(own.times)
        return
    name = name_of(source)
    with open_tracks(source) as container:
        decoder = Decoder(_threaded(video_stream(container, name)), name)
        streams = track(source, container, decoder.stream)
        try:
            if plan.pts is None:
                numbers = set(wanted)
                for index, frame in enumerate(decoder.all(Clock(container).packets(*streams))):
                    if index in numbers:
                        yield index, frame
                    if index == wanted[-1]:
                        return
                raise AssertionError(f"{name}: two decodings gave different numbers of frames")
            missing = {plan.pts[index]: index for index in wanted}
            for frame in _runs(container, decoder, streams, plan, wanted):
                index = missing.pop(frame.pts, -1)
                if index >= 0:
                    yield index, frame
            if missing:
                decoder.restart()  # the second try will tell of the damage
                raise MissingFrameError
        finally:
            decoder.warn()


def _threaded(stream: Any) -> Any:
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = THREADS
    return stream


def _by_packets(source: Source, container: InputContainer, span: Window, seek: bool) -> Schedule | None:
    stream = video_stream(container, name_of(source))
    clock, origin = Clock(container), 0.0
    sought, latest = None, math.inf
    if seek:
        if must_be_read(container):
            return None
        head = [packet.pts for packet in itertools.islice(clock.packets(stream), 16)]
        if not head or None in head:
            return None
        origin = clock.origin(float(min(head) * stream.time_base))
        latest = (origin + span.start) / stream.time_base
        sought = math.floor(latest - PREROLL / stream.time_base)
        try:
            container.seek(sought, stream=stream)
        except av.FFmpegError:
            return None
        clock = Clock(container)
    rows: list[tuple[int, int, int, int]] = []  # pts, packet, key, duration
    keys: list[tuple[int, int]] = []  # pts, packet
    whole = True
    for number, packet in enumerate(clock.packets(*track(source, container, stream))):
        # A seek must land on a key frame at or before the asked time, or the frame then on screen is missed.
        if packet.pts is None or (number == 0 and seek and not (packet.is_keyframe and packet.pts <= latest)):
            return None
        if rows and packet.dts is not None and seconds(packet.dts, stream.time_base) - clock.start - HOLE >= span.end:
            whole = False  # no later packet is shown before its decoding time
            break
        if packet.is_keyframe:
            keys.append((packet.pts, number))
        if not packet.is_discard:
            # The last key frame that is shown no later. In an open GOP pictures follow a key frame in the file but are
            # shown before it: they lean on the one before.
            key = next((at for pts, at in reversed(keys) if pts <= packet.pts), 0)
            rows.append((packet.pts, number, key, ticks_of(packet)))
    if not rows:
        return None
    rows.sort()
    pts, numbers, firsts, durations = (list(column) for column in zip(*rows, strict=True))
    # Frames that share a timestamp cannot be told apart when they come out of the decoder.
    if len(set(pts)) < len(pts):
        return None
    origin = origin if seek else clock.origin(float(pts[0] * stream.time_base))
    times = np.maximum(seconds(np.array(pts), stream.time_base) - origin, 0.0)
    end = float(times[-1]) + (seconds(durations[-1], stream.time_base) or _spacing(times, stream))
    if whole:
        warn_if_truncated(source, container, stream, end)
    counted = len(rows) if whole and not seek else None
    end = check_duration(end if whole else max(end, span.end), name_of(source), packets=counted)
    return Schedule(times, end, pts, numbers, firsts, sought)


def _by_frames(source: Source, span: Window, *, again: bool) -> Schedule:
    times: list[float] = []
    with open_tracks(source) as container:
        decoder = Decoder(_threaded(video_stream(container, name_of(source))), name_of(source))
        stream = decoder.stream
        step = _spacing(np.empty(0), stream)
        clock, origin = Clock(container), None
        for frame in decoder.all(clock.packets(*track(source, container, stream))):
            if origin is None:
                origin = clock.origin(frame.time)
            times.append(len(times) * step if frame.time is None else max(0.0, frame.time - origin))
            if times[-1] >= span.end:
                break
        decoder.check(promised_end(source, container, stream))
        # Times are searched by bisection: they must not go back.
        shown = np.maximum.accumulate(np.array(times))
        end = check_duration(float(shown[-1] + _spacing(shown, stream)), name_of(source), packets=len(times))
        plan = Schedule(shown, end)
        if shown[-1] < span.end and not again:
            warn_if_truncated(source, container, stream, plan.end)
        return plan


def _spacing(times: NDArray[np.float64], stream: Any) -> float:
    """Seconds between frames, for a last frame that does not say how long it is shown."""
    if len(times) > 1:
        return float(np.median(np.diff(times)))
    return float(1 / (stream.average_rate or stream.guessed_rate or 25))


def _runs(
    container: InputContainer, decoder: Decoder, streams: list[Any], plan: Schedule, wanted: list[int]
) -> Iterator[Any]:
    """Decode the stretches of packets that hold the wanted frames, each from its key frame, and skip the others."""
    assert plan.pts is not None
    assert plan.packet is not None
    assert plan.key is not None
    runs: list[list[int]] = []  # first packet, last packet
    for index in wanted:
        if runs and plan.key[index] <= runs[-1][1] + 1:
            runs[-1][1] = max(runs[-1][1], plan.packet[index])
        else:
            runs.append([plan.key[index], plan.packet[index]])
    needed = {plan.pts[index] for index in wanted}
    if plan.seek is not None:
        container.seek(plan.seek, stream=decoder.stream)
    run = iter(runs)
    first, last = next(run)
    for number, packet in enumerate(Clock(container).packets(*streams)):
        if number < first:
            continue
        # A frame that no other leans on need not be decoded unless it is wanted.
        packet.stream.codec_context.skip_frame = "DEFAULT" if packet.pts in needed else "NONREF"
        yield from decoder.decode(packet)
        if number == last:
            yield from decoder.decode(None)
            # A decoder that was drained takes no more packets until it is flushed.
            decoder.stream.codec_context.flush_buffers()
            stretch = next(run, None)
            if stretch is None:
                return
            first, last = stretch
