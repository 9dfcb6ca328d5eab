"""Find the media files in folders."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from peav.errors import MediaWarning, MissingFileError, UnsupportedInputError

AUDIO_EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("aac", "ac3", "adts", "aif", "aifc", "aiff", "amr", "ape", "au", "awb", "caf", "dsf", "dts", "eac3", "ec3"),
        *("flac", "gsm", "loas", "m4a", "m4b", "m4r", "mka", "mlp", "mp1", "mp2", "mp3", "mpa", "mpc", "mpga", "oga"),
        *("ogg", "oma", "opus", "qcp", "ra", "rf64", "shn", "snd", "sph", "spx", "tak", "thd", "tta", "voc", "w64"),
        *("wav", "wave", "weba", "wma", "wv"),
    )
)
VIDEO_EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("264", "265", "3g2", "3gp", "3gpp", "asf", "avi", "dav", "divx", "dv", "dvr-ms", "f4v", "flv", "gif"),
        *("gxf", "h264", "h265", "hevc", "insv", "ivf", "m1v", "m2p", "m2t", "m2ts", "m2v", "m4v", "mjpeg", "mjpg"),
        *("mk3d", "mkv", "mov", "mp4", "mp4v", "mpe", "mpeg", "mpg", "mpv", "mts", "mxf", "nut", "ogm", "ogv", "qt"),
        *("rm", "rmvb", "tod", "trp", "ts", "vob", "vro", "webm", "wmv", "wtv", "y4m"),
    )
)


def find_media(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Media files among `paths`, in the order in which these are given, a folder's sorted, each once.

    Folders are walked recursively and filtered by extension; hidden files and folders in them are left out. Links to
    folders are followed. A folder that can be reached in several ways, or holds itself, is listed once: under its own
    name before a link's, and under a name nearer to `paths` before one that is farther. A file named outright is kept
    whatever its extension. Raises `MissingFileError` for a path that is not there; warns of a folder that cannot be
    read.
    """
    given = [Path(path) for path in paths]
    if absent := next((path for path in given if not path.exists()), None):
        raise _missing(absent)
    return _find(given)


def media_files(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """As `find_media`, with the paths that are not there in their places, for a job to list as failures.

    Raises `MissingFileError` where none of them is there.
    """
    given = [Path(path) for path in paths]
    if given and not any(path.exists() for path in given):
        raise _missing(given[0])
    return _find(given)


def _missing(path: Path) -> MissingFileError:
    return MissingFileError(f"{path}: no such file or folder; check the spelling")


def _find(given: Sequence[Path]) -> list[Path]:
    """Files with the place among the `given` at which they were met first, by which they are sorted."""
    found: dict[Path, int] = {}
    folders: list[tuple[Path, int]] = []
    for place, path in enumerate(given):
        if path.is_dir():
            folders.append((path, place))
        else:
            found.setdefault(path, place)
    seen: set[tuple[int, int]] = set()
    while folders:
        links: list[tuple[Path, int]] = []
        for folder, place in folders:
            below: list[Path] = []
            for path in _walk(folder, seen, below):
                found[path] = min(place, found.get(path, place))
            links += [(link, place) for link in below]
        folders = sorted(links)
    return sorted(found, key=lambda path: (found[path], path))


def unwritable(path: Path) -> UnsupportedInputError | None:
    """Results are written as UTF-8, but a file's name may be any bytes: the error of one that cannot be written."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return UnsupportedInputError(f"{path}: a name that is not UTF-8 cannot be written; rename the file")
    return None


def _walk(top: Path, seen: set[tuple[int, int]], links: list[Path]) -> Iterator[Path]:
    """Media in folders below `top` that are not `seen` yet, which are noted; links to folders are added to `links`."""
    for root, folders, files in os.walk(top, onerror=_warn):
        status = os.stat(root)
        # By the folder itself: links lead to it under several names, or around in a circle.
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links += [Path(root, name) for name in folders if os.path.islink(os.path.join(root, name))]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_EXTENSIONS | VIDEO_EXTENSIONS:
                yield Path(root, name)


def _warn(error: OSError) -> None:
    warnings.warn(
        f"{error.filename}: cannot be read ({error.strerror}); what is in this folder is left out",
        MediaWarning,
        stacklevel=2,
    )
