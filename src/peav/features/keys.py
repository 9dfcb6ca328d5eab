"""What tells a clip from others, and its media from what took their place; loads no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from peav.data.manifest import Row
from peav.jobs import version_of
from peav.utils.storage import WHOLE, FilePart, version_mark


def clip_key(row: Row) -> str:
    """Names a clip by its id and by what its features are cut from, a tar that took another's place being another."""
    versions = [place.version for place in (row.audio_path, row.video_path) if isinstance(place, FilePart)]
    source = "|".join(map(str, (row.id, row.audio_path, row.video_path, row.start, row.end, *versions)))
    return hashlib.sha256(source.encode()).hexdigest()[:24]


def media_version(row: Row) -> str:
    """Tells a clip's files from others in their place.

    Empty where that cannot be told: they are gone, or in a tar, whose version is in the clip's key. Files in object
    storage are asked for one by one. Raises StorageError.
    """
    marks = []
    for path in dict.fromkeys((row.audio_path, row.video_path)):
        if isinstance(path, Path):
            _, size, time = version_of(path)
            if size < 0:  # it is refused when it is read
                return ""
            marks.append(f"{size}-{time}")
        elif path is not None and path.size == WHOLE:
            try:
                marks.append(version_mark(path.path))
            except FileNotFoundError:
                return ""
    return " ".join(marks)


def media_mark(row: Row) -> str:
    """Tells a clip's media from others', and from what took their place."""
    return f"{clip_key(row)} {media_version(row)}"
