"""Tell a file that was cut off from one that is whole; FFmpeg itself ends early without a word."""

from __future__ import annotations

import re
import struct
import warnings
from typing import Any

import av
from av.container import InputContainer

from peav.errors import TruncatedMediaWarning
from peav.media.clock import TS_DISCONT, may_jump, start_of
from peav.media.source import Source, name_of, raw_part
from peav.media.streams import BARE
from peav.media.tracks import REST, scan


def promised_end(source: Source, container: InputContainer, stream: Any) -> float | None:
    """Where the file's header says that `stream` ends, in seconds on the file's timeline; None where it does not."""
    format = container.format.name
    if format == "wav":
        return _riff_seconds(source)
    if container.format.flags & TS_DISCONT:  # nobody wrote it down: FFmpeg guesses it from the last timestamps
        return None
    if format in BARE and not (format == "mp3" and _has_frame_count(source)):
        return None
    if stream.duration:
        return float((stream.duration + (stream.start_time or 0)) * stream.time_base) - start_of(container)
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d\.?\d*)", stream.metadata.get("DURATION", ""))  # Matroska's
    if tag:
        hours, minutes, seconds = map(float, tag.groups())
        return hours * 3600 + minutes * 60 + seconds - start_of(container)
    return float(container.duration / av.time_base) if container.duration else None


def warn_if_truncated(source: Source, container: InputContainer, stream: Any, held: float) -> None:
    """Warn where `stream`, which turned out to end at `held` seconds, was cut off."""
    name = name_of(source)
    promised = promised_end(source, container, stream)
    if promised is not None and _short(held, promised) and not _others_reach(source, stream, promised):
        text = f"it holds {held:.2f} s of the {promised:.2f} s of {stream.type} that its header promises"
    elif container.format.name == "ogg" and not _ogg_ended(source):
        text = f"it holds {held:.2f} s of {stream.type} and then stops without an end mark; how much it had is unknown"
    elif may_jump(container) and (rest := scan(source).unread) > REST:
        text = f"it holds {held:.2f} s of {stream.type} and then {rest} bytes that its streams do not go on in"
    else:
        return
    warnings.warn(
        f"{name}: truncated: {text}; what it holds is used; copy it again for the rest",
        TruncatedMediaWarning,
        stacklevel=2,
    )


def _short(held: float, promised: float) -> bool:
    return promised - held > 0.25 + 0.001 * promised


def _others_reach(source: Source, stream: Any, promised: float) -> bool:
    """Whether the promise was the whole file's and another stream keeps it: then this one is simply shorter."""
    own = stream.duration or stream.metadata.get("DURATION")
    return not own and len(stream.container.streams) > 1 and not _short(scan(source).end, promised)


def _riff_seconds(source: Source) -> float | None:
    """Length of a RIFF WAVE file by its header; None where it was written to a pipe, is RF64, or is not plain PCM,
    whose rate of bytes is no promise.
    """
    head = raw_part(source, 0, 1 << 16)
    at, bytes_per_second = 12, 0
    while head[:4] == b"RIFF" and at + 8 <= len(head):
        chunk, size = struct.unpack_from("<4sI", head, at)
        if chunk == b"fmt " and at + 22 <= len(head):
            rate, told, block = struct.unpack_from("<IIH", head, at + 12)
            bytes_per_second = told if told == rate * block else 0
        if chunk == b"data":
            known = bytes_per_second and 0 < size < 0x7FFFFFFF
            return size / bytes_per_second if known else None
        at += 8 + size + size % 2
    return None


def _has_frame_count(source: Source) -> bool:
    """Whether an MP3 begins with a Xing, Info or VBRI header, which counts its frames."""
    head = raw_part(source, 0, 10)
    skip = 0
    if head[:3] == b"ID3":  # its size is written in seven bits a byte
        skip = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    first = raw_part(source, skip, 4096)
    return any(mark in first for mark in (b"Xing", b"Info", b"VBRI"))


def _ogg_ended(source: Source) -> bool:
    """Whether the last Ogg page carries the end-of-stream flag and is whole."""
    tail = raw_part(source, -(1 << 17), 1 << 17)  # a page is at most 65307 bytes
    at = tail.rfind(b"OggS")
    if at < 0 or at + 27 > len(tail) or not tail[at + 5] & 4:
        return False
    table = tail[at + 27 : at + 27 + tail[at + 26]]
    return len(tail) >= at + 27 + len(table) + sum(table)
