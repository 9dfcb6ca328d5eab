"""Choose the streams of an open file and decode them, with typed errors only."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import av
from av.container import InputContainer
from av.stream import Disposition

from peav.errors import (
    DamagedMediaWarning,
    MediaError,
    NoAudioStreamError,
    NotMediaError,
    NoVideoStreamError,
    UndecodableError,
    ZeroLengthError,
)
from peav.media.limits import Limits, check_pixels, check_rate, unknown_size

SETTLED = 32  # packets after which the stream before is taken to have ended
HOLE = 0.1  # seconds: smaller jumps of timestamps are rounding, or the codec settling
# Bare streams have no header that tells their length: FFmpeg guesses it from the bit rate.
BARE = frozenset({"aac", "ac3", "amr", "dts", "eac3", "h264", "hevc", "loas", "m4v", "mp3", "mpegvideo", "truehd"})


def audio_stream(container: InputContainer, name: str) -> Any:
    """FFmpeg's best audio stream. Raises `NoAudioStreamError`, or `UndecodableError` where no decoder knows it."""
    if not container.streams.audio:
        raise NoAudioStreamError(f"{name}: no audio stream; use it as video only, or give a file with sound")
    stream = chosen(container, "audio")
    if stream is None:
        raise _undecodable("audio", name)
    if rate := stream.codec_context.sample_rate:  # else its frames will tell
        check_rate(rate, name)
    if stream.codec_context.name == "flac":  # it decodes damage to noise unless told to check
        stream.codec_context.options = {"err_detect": "crccheck+explode"}
    return stream


def video_stream(container: InputContainer, name: str) -> Any:
    """FFmpeg's best video stream that is not cover art. Raises `NoVideoStreamError` or `UndecodableError`."""
    if not has_picture(container):
        art = " (its picture is cover art)" if container.streams.video else ""
        raise NoVideoStreamError(f"{name}: no video stream{art}; use it as audio only, or give a file with pictures")
    stream = chosen(container, "video")
    if stream is None:
        raise _undecodable("video", name)
    context = stream.codec_context
    check_pixels(context.width, context.height, name)
    # Some headers do not tell the size, and any may change: the decoder keeps the limit, too.
    context.options = {"max_pixels": str(Limits.from_environment().pixels)}
    return stream


def chosen(container: InputContainer, kind: Literal["audio", "video"]) -> Any | None:
    """The stream of a kind that FFmpeg's players choose, among those that can be decoded and are not cover art."""
    streams = container.streams.audio if kind == "audio" else container.streams.video
    # PyAV gives a stream that has no decoder no codec context.
    usable = [stream for stream in streams if stream.codec_context is not None and not is_cover(stream)]
    try:
        best = container.streams.best(kind)
    except IndexError:  # it appeared after the file was opened, and PyAV does not know it
        best = None
    return best if best in usable else next(iter(usable), None)


def is_cover(stream: Any) -> bool:
    """Whether a stream is a picture that belongs to a sound file."""
    return bool(stream.disposition & Disposition.attached_pic)


def has_picture(container: InputContainer) -> bool:
    """Whether there is a video stream that is not cover art."""
    return not all(map(is_cover, container.streams.video))


def _undecodable(kind: str, name: str) -> UndecodableError:
    return UndecodableError(
        f"{name}: its {kind} is in a codec that has no decoder here, or is encrypted; convert it first"
    )


class Decoder:
    """Decodes packets of a stream, or of several that follow each other.

    A packet that fails is counted, never raised: one bad packet costs itself only.
    """

    def __init__(self, stream: Any, name: str) -> None:
        self.stream, self.name = stream, name
        self.packets = self.bad = self.frames = self.concealed = 0
        self.refused = False  # by the limit of pixels, most likely: so FFmpeg calls what it will not take
        self.first_bad: float | None = None
        self.settling = False
        self._behind: Any = None  # the stream before, where one has just followed another
        self._since = 0  # packets since then

    def restart(self) -> None:
        """After a seek: packets that lean on ones before the place may fail, which is no damage."""
        self.packets = self.bad = self.frames = self.concealed = 0
        self.settling = True

    def decode(self, packet: Any) -> list[Any]:
        """Frames that came ready with this packet; `None` drains the decoder."""
        if packet is None:
            return self._drain() + self._feed(None)
        if packet.stream_index != self.stream.index:  # the last packets of the one may lie between those of the next
            self._behind, self._since, self.stream = self.stream, 0, packet.stream
        self._since += 1
        return (self._drain() if self._since == SETTLED else []) + self._feed(packet)

    def _drain(self) -> list[Any]:
        """What the stream before still holds."""
        stream, self._behind = self._behind, None
        try:
            frames: list[Any] = [] if stream is None else stream.codec_context.decode(None)
        except av.FFmpegError:
            return []
        self.frames += len(frames)
        return frames

    def _feed(self, packet: Any) -> list[Any]:
        self.packets += packet is not None
        try:
            frames: list[Any] = self.stream.codec_context.decode(packet)
        except EOFError:  # drained already
            return []
        except av.FFmpegError as error:
            self.refused = self.refused or isinstance(error, av.ArgumentError)
            if not self.settling:
                self.bad += 1
                if self.first_bad is None and packet is not None and packet.pts is not None:
                    self.first_bad = float(packet.pts * packet.time_base)
            return []
        for frame in frames:
            if frame.time_base is None:  # as of some that are drained: their time would be NaN
                frame.time_base = self.stream.time_base
        self.frames += len(frames)
        self.concealed += sum(frame.is_corrupt for frame in frames)
        self.settling = self.settling and not frames
        return frames

    def all(self, packets: Iterable[Any]) -> Iterator[Any]:
        """Every frame of the packets given."""
        for packet in packets:
            yield from self.decode(packet)
        yield from self.decode(None)

    def check(self, promised: float | None) -> None:
        """Call at the end of the stream, with the seconds its header promises: raises where nothing was decoded."""
        if self.frames:
            return
        kind = self.stream.type
        if self.refused and kind == "video" and not self.stream.codec_context.width:
            raise unknown_size(self.name)
        if self.packets:
            raise UndecodableError(
                f"{self.name}: none of its {self.packets} {kind} packets can be decoded: damaged or encrypted; "
                "copy or convert it again"
            )
        if promised:
            raise UndecodableError(
                f"{self.name}: it promises {promised:.2f} s of {kind} but holds none: cut off after its header; "
                "copy it again"
            )
        raise nothing_in(self.stream.container, self.name)

    def warn(self) -> None:
        """Warn where packets were left out or patched up."""
        damaged = max(self.bad, self.concealed)
        if damaged and self.frames:
            where = "" if self.first_bad is None else f", the first at {self.first_bad:.2f} s"
            self.warn_of(f"{damaged} of {self.packets} {self.stream.type} packets are damaged{where}")

    def warn_of(self, damage: str) -> None:
        """Warn of damage in the file's name."""
        warnings.warn(
            f"{self.name}: {damage}; the rest is used; copy or convert it again", DamagedMediaWarning, stacklevel=2
        )


def packets(container: InputContainer, *streams: Any) -> Iterator[Any]:
    """Packets of `streams`, without the flush packet; a read error ends them, as the end of the file does."""
    demuxed = container.demux(*streams)
    while True:
        try:
            packet = next(demuxed, None)
        except (av.FFmpegError, IndexError):  # PyAV raises the latter at the end where streams appeared on the way
            return
        if packet is None:
            return
        if packet.size:
            yield packet


def ticks_of(packet: Any) -> int:
    """How long a packet lasts, in its time base; 0 where it does not say, or says less than nothing."""
    ticks: int = packet.duration or 0
    return ticks if ticks < 1 << 31 else 0  # FFmpeg's negative durations come out as large ones


def nothing_in(container: InputContainer, name: str) -> MediaError:
    """The error for a file in which there are no packets."""
    format = container.format.name
    if format in BARE or format == "flac":  # formats without a header are believed to be what the file's name says
        return NotMediaError(
            f"{name}: nothing in it is {format}, whatever its name says; check that it is a media file"
        )
    return ZeroLengthError(f"{name}: its streams hold nothing; copy or record the file again")
