"""Files that were joined byte for byte, where FFmpeg reads the first one only or stumbles over the seam.

Each is opened as a file of its own, and begins on the clock where the one before it ends. Formats in which FFmpeg goes
on by itself (MPEG, Matroska, Ogg without pictures, MP3, ADTS) are left to it, and so are fragments of MP4.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from peav.errors import LimitError, MediaError
from peav.jobs import Version, version_of
from peav.media.source import Section, Source, name_of, open_media, raw_part, size_of
from peav.utils.storage import FilePart

BLOCK = 1 << 24
LONGEST_MARK = 1 << 12
MOST = 1000  # files in one
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
# What a file of a format begins with, and nothing else in it looks like.
_MARKS = (
    (b"fLaC", re.compile(rb"fLaC[\0\x80]\0\0\x22")),
    (b"FLV\x01", re.compile(rb"FLV\x01[\0\x01\x04\x05]\0\0\0\x09\0\0\0\0")),
    (_ASF, re.compile(re.escape(_ASF))),
)


def sections(source: Source) -> list[Source]:
    """The files in `source`, in order: `[source]` where it is one, or FFmpeg reads all of them as one.

    Raises:
        LimitError: more than `MOST`.
    """
    if isinstance(source, FilePart | Section):
        return [source]
    starts: tuple[int, ...] = (0,)
    if isinstance(source, str | os.PathLike):
        # Where it cannot be read, opening it says what is wrong.
        if os.path.isfile(source) and os.access(source, os.R_OK):
            starts = _starts_in_path(os.fspath(source), version_of(Path(source)))
    elif isinstance(source, bytes) or (hasattr(source, "seekable") and not source.closed and source.seekable()):
        starts = _starts(source)
    if len(starts) == 1:
        return [source]
    ends = (*starts[1:], size_of(source))
    return [Section(source, start, end - start) for start, end in zip(starts, ends, strict=True)]


@lru_cache(maxsize=256)
def _starts_in_path(path: str, _version: Version) -> tuple[int, ...]:
    return _starts(path)


def _starts(source: Any) -> tuple[int, ...]:
    head: Any = raw_part(source, 0, LONGEST_MARK)
    size = size_of(source)
    if not isinstance(head, bytes):  # a text file: opening it says what is wrong
        return (0,)
    mark = next((mark for begin, mark in _MARKS if head.startswith(begin)), None)
    if mark is not None:
        found = _marked(source, mark)
    elif head.startswith(b"OggS") and b"\x80theora" in head:
        found = _chained(source)
    elif head[:4] in (b"RIFF", b"FORM"):
        found = _chunked(source)
    elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        found = _boxed(source)
    else:
        return (0,)
    starts = [0]
    for start in found:
        # Any data may hold a mark by chance.
        if _opens(Section(source, start, size - start)):
            starts.append(start)
        if len(starts) > MOST:
            raise LimitError(f"{name_of(source)}: more than {MOST} files joined in one; give them one by one")
    return tuple(starts)


def _opens(section: Section) -> bool:
    try:
        with open_media(section) as container:
            return bool(container.streams.audio or container.streams.video)
    except MediaError:
        return False


def _marked(source: Source, mark: re.Pattern[bytes]) -> Iterator[int]:
    for at, match in _matches(source, mark):
        if at + match.start() > 0:
            yield at + match.start()


def _matches(source: Source, mark: re.Pattern[bytes]) -> Iterator[tuple[int, re.Match[bytes]]]:
    """Matches in blocks of the file, with the place of each block."""
    for at in range(0, size_of(source), BLOCK):
        # A mark may lie across two blocks, so they overlap; it counts in the one where it begins.
        block = raw_part(source, at, BLOCK + LONGEST_MARK)
        yield from ((at, match) for match in mark.finditer(block) if match.start() < BLOCK)


def _chained(source: Source) -> Iterator[int]:
    """Where streams of Ogg begin that do not begin beside others."""
    end = 0
    for at, match in _matches(source, re.compile(rb"OggS\0\x02.{20}(.)", re.DOTALL)):
        start = at + match.start()
        table = raw_part(source, start + 27, match[1][0])
        if start > 0 and start != end:
            yield start
        end = start + 27 + len(table) + sum(table)


def _chunked(source: Source) -> Iterator[int]:
    """Where RIFF and AIFF files begin after the first; AVI goes on in chunks of another type."""
    kind, _, form = struct.unpack("4s4s4s", raw_part(source, 0, 12).ljust(12, b"\0"))
    order = "<I" if kind == b"RIFF" else ">I"
    at = 0
    while len(head := raw_part(source, at, 12)) == 12 and head[:4] == kind:
        if at and head[8:] == form:
            yield at
        length = struct.unpack(order, head[4:8])[0]
        at += 8 + length + length % 2
        if length == 0:
            return


def _boxed(source: Source) -> Iterator[int]:
    """Where MP4 files begin after the first. With fragments, FFmpeg goes on over further headers by itself."""
    at, index, found = 0, False, []
    while len(head := raw_part(source, at, 16)) >= 8:
        length, kind = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            length = struct.unpack(">Q", head[8:])[0]
        if kind == b"moof":
            return
        if kind == b"ftyp" and index:
            found.append(at)
            index = False
        index = index or kind == b"moov"
        if length < 8:
            break
        at += length
    yield from found
