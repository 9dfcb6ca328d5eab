"""Open whatever holds media (path, bytes, file object), with typed errors only."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.container import InputContainer

from peav.errors import (
    MissingFileError,
    NotMediaError,
    PeavError,
    StorageError,
    UnreadableFileError,
    UnsupportedInputError,
    ZeroLengthError,
)
from peav.media.formats import WHITELIST, kind_of
from peav.media.limits import Limits
from peav.utils.storage import WHOLE, FetchedPart, FilePart


@dataclass(frozen=True)
class Section:
    """`size` bytes of a source from `offset` on, opened as a file of their own."""

    source: str | os.PathLike[str] | bytes | BinaryIO
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{name_of(self.source)} (from byte {self.offset} on)"


Source = str | os.PathLike[str] | bytes | BinaryIO | FilePart | Section

# Tags need not be UTF-8. PyAV 19 keeps odd bytes as they are; earlier versions raise unless told otherwise.
_ODD_TAGS: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}

# What the system says of a disk, a network share or a process that fails, whichever file it is asked for.
OUTAGES = (
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EMFILE,
    errno.ENFILE,
)
THOROUGH = 1 << 28  # bytes
LONGEST_PROBED = 30 * 86400 * 1_000_000  # microseconds


def name_of(source: Source) -> str:
    """How messages call this source: its path, `<bytes>`, or the name of the file object or part."""
    if isinstance(source, FilePart | Section):
        return str(source)
    if isinstance(source, bytes):
        return "<bytes>"
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "<file object>"


@contextmanager
def open_media(source: Source, *, thorough: bool = False) -> Iterator[InputContainer]:
    """Open `source` for demuxing; whatever is wrong with it is a `MediaError`, and what is with its storage none.

    `thorough`: look for streams in all of the file, not in its beginning alone, and hold up to `THOROUGH` bytes for it.

    Only formats of `WHITELIST` are opened: a playlist, whatever its name, is refused before what it names is read.
    """
    name = name_of(source)
    with ExitStack() as files:
        try:
            container = _open(_readable(source, name, files), files, THOROUGH if thorough else None)
        except av.FFmpegError as error:
            raise _not_media(source, name, error) from error
        with container:
            yield container


def _open(readable: str | _View, files: ExitStack, probed: int | None) -> InputContainer:
    allowed = {"format_whitelist": WHITELIST, "protocol_whitelist": "file"}
    if probed is not None:
        allowed |= {"probesize": str(probed), "analyzeduration": str(LONGEST_PROBED)}
    options = {"max_pixels": str(Limits.from_environment().pixels)}  # opening decodes a first frame of some formats
    try:
        return av.open(readable, "r", options=options, container_options=allowed, **_ODD_TAGS)
    except av.ArgumentError:  # so FFmpeg calls a format that is not among ours
        if not isinstance(readable, str):
            raise
    # A picture called "what?.png" is a pattern of names to FFmpeg, which would look for a sequence: hide the name.
    return _open(_View(files.enter_context(open(readable, "rb"))), files, probed)


@contextmanager
def open_pipe(pipe: int) -> Iterator[InputContainer]:
    """Open what comes through a pipe, of a descriptor, for demuxing; errors as `open_media`.

    Little is read before the first packet, so that what is live does not wait.
    """
    allowed = {"format_whitelist": WHITELIST, "protocol_whitelist": "file", "probesize": "32768"}
    options = {"max_pixels": str(Limits.from_environment().pixels)}
    try:
        container = av.open(_Pipe(pipe), "r", options=options, container_options=allowed, buffer_size=4096, **_ODD_TAGS)
    except av.FFmpegError as error:
        raise NotMediaError(
            f"stdin: not audio or video in a format that can be read as it comes ({error.strerror}); bare samples need "
            "their sampling rate"
        ) from error
    with container:
        yield container


class _Pipe:
    """A pipe that gives what has come, and does not wait for as much as was asked."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def read(self, size: int) -> bytes:
        return os.read(self.pipe, size)


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


def _readable(source: Any, name: str, files: ExitStack) -> str | _View:
    if isinstance(source, Section):
        whole = _readable(source.source, name_of(source.source), files)
        if not isinstance(whole, str):
            return _View(whole.file, source.offset, source.size)
        return _View(files.enter_context(open(whole, "rb")), source.offset, source.size)
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
        raise _unreadable(str(part), error) from error


def fetched(source: Any) -> Any:
    """A part of a file with its bytes in memory, so that they are fetched once; any other source as it is.

    Raises MediaError, StorageError.
    """
    if not isinstance(source, FilePart) or isinstance(source, FetchedPart):
        return source
    data = _part(source)
    return FetchedPart(source.path, source.offset, len(data), source.name, version=source.version, data=data)


def fetched_both(audio: Any, video: Any) -> tuple[Any, Any]:
    """The two of a clip, as `fetched`; once where they are the same."""
    sound = fetched(audio)
    return sound, sound if isinstance(audio, FilePart) and audio == video else fetched(video)


def _unreadable(name: str, error: OSError | ValueError) -> PeavError:
    """Only what is wrong with the file itself may be held against it."""
    if isinstance(error, OSError) and error.errno in OUTAGES:
        return StorageError(f"{name}: its storage fails ({error}); check it, and run the same command again")
    return UnreadableFileError(f"{name}: cannot be read ({error}); check its permissions")


def _checked_path(name: str) -> str:
    if "://" in name:
        raise UnsupportedInputError(f"{name}: addresses are not fetched; download the file and give its path")
    path = Path(name).absolute()  # absolute: FFmpeg must not take "concat:a|b" for a protocol
    try:
        status = path.stat()
        # Opened to learn of permissions; not a pipe, where opening waits for who writes to it.
        if stat.S_ISREG(status.st_mode):
            path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"{name}: no such file; check the path") from error
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableFileError(f"{name}: a folder, not a file; give the files in it")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableFileError(
            f"{name}: a device or a pipe, not a file; save what it gives as a file, or give the bytes"
        )
    if status.st_size == 0:
        raise ZeroLengthError(f"{name}: empty (0 bytes); copy or record the file again")
    return str(path)


def raw_part(source: Source, offset: int, size: int) -> bytes:
    """`size` bytes of the file itself from `offset` on, or from its end where negative; fewer where it is shorter."""
    if isinstance(source, FilePart):
        source = _part(source)
    if isinstance(source, Section):
        first = max(0, source.size + offset) if offset < 0 else min(offset, source.size)
        return raw_part(source.source, source.offset + first, min(size, source.size - first))
    if isinstance(source, bytes):
        return source[offset : offset + size] if offset >= 0 else source[offset:][:size]
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            return raw_part(file, offset, size)
    length = source.seek(0, os.SEEK_END)
    # A header may name a place that no file has, and that seek cannot hold.
    source.seek(max(0, length + offset) if offset < 0 else min(offset, length))
    return source.read(size)


def size_of(source: Source) -> int:
    """How many bytes a source has."""
    if isinstance(source, FilePart) and source.size == WHOLE:
        return len(_part(source))
    if isinstance(source, FilePart | Section):
        return source.size
    if isinstance(source, bytes):
        return len(source)
    if isinstance(source, str | os.PathLike):
        return os.stat(source).st_size
    return source.seek(0, os.SEEK_END)


class _View:
    """A seekable file with a position of its own, so that several readers can share one file object; or `size` bytes
    of one from `begin` on.
    """

    def __init__(self, file: BinaryIO, begin: int = 0, size: int | None = None) -> None:
        self.file, self.begin, self.size, self.position = file, begin, size, 0

    def read(self, size: int = -1) -> bytes:
        if self.size is not None:
            left = max(0, self.size - self.position)
            size = left if size < 0 else min(size, left)
        # Another reader may have moved the file's own position.
        self.file.seek(min(self.begin + self.position, sys.maxsize))
        data = self.file.read(size)
        self.position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            offset += self.position
        elif whence == os.SEEK_END:
            offset += self.file.seek(0, os.SEEK_END) if self.size is None else self.size
        if offset < 0:
            raise OSError(errno.EINVAL, "before the beginning of the file")
        self.position = offset
        return self.position

    def tell(self) -> int:
        return self.position
