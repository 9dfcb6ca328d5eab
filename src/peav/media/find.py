"""Find the media files in folders."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from peav.media.errors import MissingFileError

AUDIO_EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("aac", "ac3", "aif", "aifc", "aiff", "amr", "ape", "au", "caf", "dts", "flac", "m4a", "m4b", "mka", "mp2"),
        *("mp3", "oga", "ogg", "opus", "spx", "tta", "w64", "wav", "weba", "wma", "wv"),
    )
)
VIDEO_EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("3g2", "3gp", "asf", "avi", "f4v", "flv", "gif", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts"),
        *("mxf", "ogm", "ogv", "ts", "vob", "webm", "wmv"),
    )
)


def find_media(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Media files among `paths`, sorted, each once.

    Folders are walked recursively and filtered by extension; hidden files and folders in them are left out.
    A file named outright is kept whatever its extension. Raises `MissingFileError` for a path that is not there.
    """
    found: set[Path] = set()
    for path in map(Path, paths):
        if path.is_dir():
            found.update(_walk(path))
        elif path.exists():
            found.add(path)
        else:
            raise MissingFileError(f"{path}: no such file or folder; check the spelling")
    return sorted(found)


def _walk(folder: Path) -> Iterable[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_EXTENSIONS | VIDEO_EXTENSIONS:
                yield Path(root, name)
