"""One clock for all streams of a file, whatever its timestamps do.

Recordings that were joined byte for byte start their timestamps again, broadcasts jump, chained Ogg restarts: each
such stretch is a segment. A segment begins where everything before it ends, and its sound and pictures move by the
same amount, so that what belongs together stays together. FFmpeg's command does much the same with one stream at a
time; here a stream that is still in the old segment, as the last sound of a joined file may be, stays there.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer

from peav.media.streams import HOLE, chosen, is_cover, packets, ticks_of

BACK = 0.1  # seconds: FFmpeg's own tolerance for timestamps that go back
AHEAD = 10.0  # seconds: FFmpeg's own limit; a larger step is a jump, in formats where timestamps may jump
LONGEST_HOLE = 3600.0  # seconds: in other formats, a larger step is damage and not a pause
NEAR = 2.0  # seconds by which the streams of a file may lie apart where they are interleaved
SEEK_FROM = 4.0  # seconds: seeking pays from here on
PREROLL = 2.0  # seconds read before the asked start: decoder and resampler settle, the frame then on screen is seen
HELD = 1000  # packets kept back at most, until all streams have reached a new segment
TS_DISCONT = 0x0200  # FFmpeg's flag of formats whose timestamps may jump


def must_be_read(container: InputContainer) -> bool:
    """Whether nothing but reading all of it tells where a moment lies, and how long the file is.

    So it is where timestamps may restart or jump anywhere, and in WAV with packed samples, whose header gives a rate of
    bytes that may be off.
    """
    name, streams = container.format.name, container.streams.audio
    packed = name == "wav" and any(s.codec_context and not s.codec_context.name.startswith("pcm_") for s in streams)
    return may_jump(container) or packed


def may_jump(container: InputContainer) -> bool:
    """Whether a jump of the timestamps is what the format allows, and not damage."""
    return bool(container.format.flags & TS_DISCONT) or container.format.name in ("flv", "live_flv")


def start_of(container: InputContainer) -> float:
    """Where the clock of a file reads zero, in the seconds of its timestamps: where the first of its streams starts."""
    return min(_starts(container), default=0.0)


def _starts(container: InputContainer) -> list[float]:
    """Where the chosen streams start; FFmpeg has left out the codec's delay."""
    chosen_ones = (chosen(container, "audio"), chosen(container, "video"))
    return [float((stream.start_time or 0) * stream.time_base) for stream in chosen_ones if stream is not None]


def clocked(container: InputContainer) -> list[Any]:
    """The streams that make the clock: audio and video, without cover art."""
    return [stream for stream in container.streams if stream.type in ("audio", "video") and not is_cover(stream)]


@dataclass(eq=False)
class _Segment:
    """A stretch of the file whose timestamps run on."""

    shift: float | None = None
    """Seconds added to its timestamps; None until all of its streams have come."""
    low: float = math.inf
    high: float = -math.inf
    """Where it starts and, so far, ends, in its own timestamps."""
    awaited: set[int] = field(default_factory=set)
    """Streams that are still in the segment before."""


@dataclass
class _State:
    """How far a stream has come."""

    segment: _Segment
    last: float


class Clock:
    """Yields the packets of a file with timestamps that never jump.

    `joins` are the times at which segments met, so far; `start` is where the file starts; `alone` says that there is
    one stream, and not both sound and pictures.
    """

    def __init__(self, container: InputContainer) -> None:
        self.container = container
        self.joins: list[float] = []
        starts = _starts(container)
        self.start, self.alone = min(starts, default=0.0), len(starts) == 1
        self._streams = clocked(container)
        self._segments: list[_Segment] = []
        self._states: dict[int, _State] = {}
        self._ahead, self._limit = (AHEAD if may_jump(container) else LONGEST_HOLE), math.inf
        # Where a header tells the length, what is timed after it is damage; but in MP4 one index gives both.
        if container.duration and not may_jump(container) and "mp4" not in container.format.name:
            self._limit = self.start + container.duration / av.time_base

    def origin(self, first: float | None) -> float:
        """Where time 0 lies: where the file starts, or without another stream at the first frame, after the codec's
        delay; `first` is that frame's time.
        """
        return first if first is not None and self.alone and first - self.start <= HOLE else self.start

    def packets(self, *streams: Any) -> Iterator[Any]:
        """The packets of `streams` from the container's present position on."""
        wanted = {stream.index for stream in streams}
        held: deque[tuple[Any, _Segment | None]] = deque()
        for packet in packets(self.container, *self._streams):
            segment = self._place(packet)
            if not self._outdated(segment):
                held.append((packet, segment))
            if len(held) > HELD:
                self._settle()
            yield from self._ready(held, wanted)
        self._settle()
        yield from self._ready(held, wanted)

    def _outdated(self, segment: _Segment | None) -> bool:
        """Whether a packet comes when its place is long past: where a stream of a broadcast ended early, FFmpeg hands
        out its last packet at the end of the file.
        """
        last = self._segments[-1] if self._segments else None
        if segment is None or last is None or segment is last or self._ahead != AHEAD:
            return False
        return last.high - last.low > AHEAD / 2

    @property
    def end(self) -> float:
        """Where the packets read so far end, in seconds of the corrected timestamps."""
        return max((s.high + s.shift for s in self._segments if s.shift is not None), default=-math.inf)

    def _ready(self, held: deque[tuple[Any, _Segment | None]], wanted: set[int]) -> Iterator[Any]:
        # In the order of the file: a packet whose place is not known yet holds back those behind it.
        while held and (held[0][1] is None or held[0][1].shift is not None):
            packet, segment = held.popleft()
            if packet.stream_index not in wanted:
                continue
            if segment is not None and segment.shift:
                ticks = round(segment.shift / packet.time_base)
                packet.pts = None if packet.pts is None else packet.pts + ticks
                packet.dts = None if packet.dts is None else packet.dts + ticks
            yield packet

    def _place(self, packet: Any) -> _Segment | None:
        """The segment a packet belongs to, which grows by it."""
        exact = packet.dts is not None  # without it, a packet's time may lie before that of the packet before
        ticks = packet.dts if exact else packet.pts
        state = self._states.get(packet.stream_index)
        if ticks is None:
            return None if state is None else state.segment
        time, length = (seconds(count, packet.time_base) for count in (ticks, ticks_of(packet)))
        shown = time if packet.pts is None else seconds(packet.pts, packet.time_base)
        # Far from the time of decoding, the time of showing is damage: one packet must not stretch its segment.
        shown = shown if abs(shown - time) < self._ahead else time
        segment = self._find(state, time, BACK if exact else NEAR) or self._open(state)
        if segment.shift is None:
            segment.awaited.discard(packet.stream_index)
            segment.low = min(segment.low, shown)
        segment.high = max(segment.high, shown + length)
        self._states[packet.stream_index] = _State(segment, time if exact else time - NEAR)
        # A stream that never comes must not hold all packets back: after AHEAD seconds the place is fixed without it.
        if segment.shift is None and (not segment.awaited or segment.high - segment.low > AHEAD):
            self._settle()
        return segment

    def _find(self, state: _State | None, time: float, back: float) -> _Segment | None:
        """The segment in which a stream goes on at `time`; None where that is a new one."""
        if state is None:  # a stream that starts among the others, or with another file that was joined to this one
            lag = AHEAD / 2 if self._ahead == AHEAD else math.inf
            around = (s for s in reversed(self._segments) if s.high - lag <= time and not self._jumps(time, s.high))
            return next(around, None)
        old = state.segment
        at = self._segments.index(old)
        newer = (s for s in self._segments[at + 1 :] if s.low - NEAR <= time <= s.high + NEAR)
        if time >= state.last - back and not self._jumps(time, old.high):
            lagging = time < old.high - NEAR  # the other streams went on: this one may have gone on with them
            return (next(newer, None) if lagging else None) or old
        if (found := next(newer, None)) is not None:
            return found
        if old.high - old.low > 1.0:
            return None
        # A damaged timestamp looks like a segment of its own, from which the stream comes back.
        self._settle()
        return next((s for s in reversed(self._segments[:at]) if s.high - 0.5 <= time <= s.high + NEAR), None)

    def _jumps(self, time: float, high: float) -> bool:
        return time > high + self._ahead or time > max(self._limit, high) + 1.0

    def _open(self, state: _State | None) -> _Segment:
        if not self._segments:
            segment = _Segment(0.0)
            self._segments.append(segment)
            segment.low = -math.inf
            return segment
        self._settle()
        before = state.segment if state is not None else self._segments[-1]
        near = before.high - AHEAD / 2
        # A stream that stopped well before the end of its segment has ended; nobody waits for it.
        awaited = {index for index, s in self._states.items() if s.segment is before and s.last > near}
        segment = _Segment(awaited=awaited)
        self._segments.append(segment)
        return segment

    def _settle(self) -> None:
        """Fix where the last segment begins: where everything before it ends."""
        last = self._segments[-1] if self._segments else None
        if last is not None and last.shift is None and last.low < math.inf:
            begin = self.end
            last.shift = begin - last.low
            self.joins.append(begin)


def seconds(ticks: Any, time_base: Fraction) -> Any:
    """Timestamps, one or an array of them, in seconds."""
    return ticks * time_base.numerator / time_base.denominator
