"""Open whatever holds media (path, bytes, file object) and decode one of its streams, with typed errors only."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.stream import Disposition

from peav.media.errors import (
    DamagedMediaWarning,
    MediaError,
    MissingFileError,
    NoAudioStreamError,
    NotMediaError,
    NoVideoStreamError,
    UndecodableError,
    UnreadableFileError,
    UnsupportedInputError,
    ZeroLengthError,
)
from peav.media.formats import WHITELIST, kind_of
from peav.media.limits import Limits, check_pixels, check_rate, unknown_size
from peav.utils.storage import FilePart

Source = str | os.PathLike[str] | bytes | BinaryIO | FilePart

HOLE = 0.1  # seconds: smaller jumps of timestamps are rounding, or the codec settling
# Tags need not be UTF-8. PyAV 19 keeps odd bytes as they are; earlier versions raise unless told otherwise.
_ODD_TAGS: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}

# Bare streams have no header that tells their length: FFmpeg guesses it from the bit rate.
BARE = frozenset({"aac", "ac3", "amr", "dts", "eac3", "h264", "hevc", "loas", "m4v", "mp3", "mpegvideo", "truehd"})


def name_of(source: Source) -> str:
    """How messages call this source: its path, `<bytes>`, or the name of the file object or part."""
    if isinstance(source, FilePart):
        return str(source)
    if isinstance(source, bytes):
        return "<bytes>"
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "<file object>"


@contextmanager
def open_media(source: Source) -> Iterator[InputContainer]:
    """Open `source` for demuxing; every way in which this can fail is a `MediaError`.

    Only formats of `WHITELIST` are opened: a playlist, whatever its name, is refused before what it names is read.
    """
    name = name_of(source)
    with ExitStack() as files:
        try:
            container = _open(_readable(source, name), files)
        except av.FFmpegError as error:
            raise _not_media(source, name, error) from error
        with container:
            yield container


def _open(readable: str | _View, files: ExitStack) -> InputContainer:
    allowed = {"format_whitelist": WHITELIST, "protocol_whitelist": "file"}
    options = {"max_pixels": str(Limits.from_environment().pixels)}  # opening decodes a first frame of some formats
    try:
        return av.open(readable, "r", options=options, container_options=allowed, **_ODD_TAGS)
    except av.ArgumentError:  # so FFmpeg calls a format that is not among ours
        if not isinstance(readable, str):
            raise
    # A picture called "what?.png" is a pattern of names to FFmpeg, which would look for a sequence: hide the name.
    return _open(_View(files.enter_context(open(readable, "rb"))), files)


def _not_media(source: Source, name: str, error: av.FFmpegError) -> NotMediaError:
    kind = kind_of(raw_part(source, 0, 4096))
    if kind is None and isinstance(error, av.ArgumentError):
        kind = "text, subtitles or another kind of file that is not opened"
    if kind is not None:
        return NotMediaError(f"{name}: {kind}, not media; give the media files themselves")
    return NotMediaError(
        f"{name}: not audio or video in a format that can be read ({error.strerror}); "
        "check that it is a media file and was copied whole"
    )


def _readable(source: Any, name: str) -> str | _View:
    if isinstance(source, FilePart):
        source = _part(source)
    if isinstance(source, bytes):
        if not source:
            raise ZeroLengthError(f"{name}: empty; there is nothing to decode")
        return _View(io.BytesIO(source))
    if isinstance(source, str | os.PathLike):
        return _checked_path(name)
    if not hasattr(source, "read") or isinstance(source, io.TextIOBase):
        raise UnsupportedInputError(
            f"{name}: {type(source).__name__} cannot be read; give a path, bytes, or a file opened with mode 'rb'"
        )
    if source.closed:
        raise UnsupportedInputError(f"{name}: the file object is closed; give one that is open")
    if not source.seekable():
        raise UnsupportedInputError(f"{name}: the file object cannot seek; give its bytes: source.read()")
    if source.seek(0, os.SEEK_END) == 0:
        raise ZeroLengthError(f"{name}: empty (0 bytes); copy or record the file again")
    return _View(source)


def _part(part: FilePart) -> bytes:
    try:
        return part.read()
    except FileNotFoundError as error:
        raise MissingFileError(f"{part.path}: no such file; check the path") from error
    except OSError as error:
        raise UnreadableFileError(f"{part}: cannot be read ({error})") from error


def _checked_path(name: str) -> str:
    if "://" in name:
        raise UnsupportedInputError(f"{name}: addresses are not fetched; download the file and give its path")
    path = Path(name).absolute()  # absolute: FFmpeg must not take "concat:a|b" for a protocol
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"{name}: no such file; check the path") from error
    except (OSError, ValueError) as error:
        raise UnreadableFileError(f"{name}: cannot be read ({error}); check its permissions") from error
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableFileError(f"{name}: a folder, not a file; list its media with find_media")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableFileError(f"{name}: a device or a pipe, not a file; read it and give the bytes")
    if status.st_size == 0:
        raise ZeroLengthError(f"{name}: empty (0 bytes); copy or record the file again")
    return str(path)


def raw_part(source: Source, offset: int, size: int) -> bytes:
    """`size` bytes of the file itself from `offset` on, or from its end where negative; fewer where it is shorter."""
    if isinstance(source, FilePart):
        source = _part(source)
    if isinstance(source, bytes):
        return source[offset:][:size]
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            return raw_part(file, offset, size)
    length = source.seek(0, os.SEEK_END)
    source.seek(max(0, length + offset) if offset < 0 else offset)
    return source.read(size)


def size_of(source: Source) -> int:
    """How many bytes a source has."""
    if isinstance(source, FilePart):
        return source.size
    if isinstance(source, bytes):
        return len(source)
    if isinstance(source, str | os.PathLike):
        return os.stat(source).st_size
    return source.seek(0, os.SEEK_END)


class _View:
    """A seekable file with a position of its own, so that several readers can share one file object."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.position = file, 0

    def read(self, size: int = -1) -> bytes:
        self.file.seek(self.position)
        data = self.file.read(size)
        self.position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            offset, whence = self.position + offset, os.SEEK_SET
        self.position = self.file.seek(offset, whence)
        return self.position

    def tell(self) -> int:
        return self.position


def audio_stream(container: InputContainer, name: str) -> Any:
    """The audio stream players choose. Raises `NoAudioStreamError`, or `UndecodableError` where no decoder knows it."""
    stream = container.streams.best("audio")
    if stream is None:
        others = container.streams.audio
        if not others:
            raise NoAudioStreamError(f"{name}: no audio stream; use it as video only, or give a file with sound")
        stream = others[0]
    if rate := _decodable(stream, name).codec_context.sample_rate:  # else its frames will tell
        check_rate(rate, name)
    if stream.codec_context.name == "flac":  # it decodes damage to noise unless told to check
        stream.codec_context.options = {"err_detect": "crccheck+explode"}
    return stream


def has_picture(container: InputContainer) -> bool:
    """Whether there is a video stream that is not cover art."""
    return any(not stream.disposition & Disposition.attached_pic for stream in container.streams.video)


def video_stream(container: InputContainer, name: str) -> Any:
    """The first video stream that is not cover art. Raises `NoVideoStreamError` or `UndecodableError`."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            context = _decodable(stream, name).codec_context
            check_pixels(context.width, context.height, name)
            # Some headers do not tell the size, and any may change: the decoder keeps the limit, too.
            context.options = {"max_pixels": str(Limits.from_environment().pixels)}
            return stream
    art = " (its picture is cover art)" if container.streams.video else ""
    raise NoVideoStreamError(f"{name}: no video stream{art}; use it as audio only, or give a file with pictures")


def _decodable(stream: Any, name: str) -> Any:
    if stream.codec_context is None:
        raise UndecodableError(
            f"{name}: its {stream.type} is in a codec that has no decoder here, or is encrypted; convert it first"
        )
    return stream


class Decoder:
    """Decodes packets of one stream. A packet that fails is counted, never raised: one bad packet costs itself only."""

    def __init__(self, stream: Any, name: str) -> None:
        self.stream, self.name = stream, name
        self.packets = self.bad = self.frames = self.concealed = 0
        self.refused = False  # by the limit of pixels, most likely: so FFmpeg calls what it will not take
        self.first_bad: float | None = None
        self.settling = False

    def restart(self) -> None:
        """After a seek: packets that lean on ones before the place may fail, which is no damage."""
        self.packets = self.bad = self.frames = self.concealed = 0
        self.settling = True

    def decode(self, packet: Any) -> list[Any]:
        """Frames that came ready with this packet; `None` drains the decoder."""
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
        self.frames += len(frames)
        self.concealed += sum(frame.is_corrupt for frame in frames)
        self.settling = self.settling and not frames
        return frames

    def all(self, container: InputContainer) -> Iterator[Any]:
        """Every frame from the container's present position on."""
        for packet in packets(container, self.stream):
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
        except av.FFmpegError:
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


def start_of(container: InputContainer) -> float:
    """Where the file's timeline begins, in the seconds of its timestamps."""
    return (container.start_time or 0) / av.time_base
