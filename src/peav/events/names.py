"""Names of recordings: what tables, label tracks, score tables and `peav detect` call one file."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import TypeVar

from peav.errors import EventsError
from peav.media.find import AUDIO_EXTENSIONS, VIDEO_EXTENSIONS

T = TypeVar("T")
SUFFIXES = AUDIO_EXTENSIONS | VIDEO_EXTENSIONS


def recording_name(path: str) -> str:
    """A path without its media suffix: `home/1.wav` is `home/1`, and `take 1.5` stays."""
    name = PurePosixPath(path.replace("\\", "/"))
    return str(name.with_suffix("") if name.suffix.lower() in SUFFIXES else name)


def short_names(names: Collection[str]) -> dict[str, str]:
    """Each name without the folders that are not needed to tell it from the others."""
    short: dict[str, str] = {}
    parts = 1
    while len(short) < len(names):
        tails = {name: "/".join(PurePath(name).parts[-parts:]) for name in names if name not in short}
        counts = Counter(tails.values())
        whole = {name for name in tails if len(PurePath(name).parts) <= parts}
        short |= {name: tail for name, tail in tails.items() if counts[tail] == 1 or name in whole}
        parts += 1
    return short


def unique_names(paths: Collection[Path]) -> dict[Path, str]:
    """What the files that are written for each path are called: its stem, its name, or all of its folders, whichever
    is enough; where folders joined by `_` are alike, as those of a_b/c.wav and a/b/c.wav, with a digest of the path.
    """
    names: dict[Path, str] = {}
    for kind in (_stem, _name, _folders, _digest):
        proposed = {path: kind(path) for path in paths if path not in names}
        counts = Counter([*proposed.values(), *names.values()])
        names |= {path: name for path, name in proposed.items() if counts[name] == 1}
    return names


def _stem(path: Path) -> str:
    return path.stem


def _name(path: Path) -> str:
    return path.name


def _folders(path: Path) -> str:
    return "_".join(path.parts[1:])


def _digest(path: Path) -> str:
    return f"{_folders(path)}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"


def aligned(found: Mapping[str, T], true: Iterable[str]) -> dict[str, T]:
    """What was found, by the names that the truth has for the same recordings; others keep their own.

    Two names are one recording where no other name on either side ends in the same file; else the folders before it
    tell, from the last one backwards, as far as both have them.

    Raises:
        EventsError: a name that may be either of two; it names both.
    """
    ours, theirs = _by_file(found), _by_file(true)
    renamed: dict[str, str] = {}
    for file, names in ours.items():
        options = theirs.get(file, [])
        if len(names) == len(options) == 1:
            renamed[names[0]] = options[0]
            continue
        for name in names:
            near = _nearest(name, options)
            if len(near) > 1:
                raise EventsError(f"{name} may be {near[0]} or {near[1]}: give names with more of their folders")
            renamed.update((name, option) for option in near)
    taken: dict[str, str] = {}
    for name, option in renamed.items():
        if option in taken:
            raise EventsError(f"{taken[option]} and {name} may both be {option}: give names with more of their folders")
        taken[option] = name
    return {renamed.get(name, name): value for name, value in found.items()}


def _by_file(names: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[PurePosixPath(name).name].append(name)
    return groups


def _nearest(name: str, options: Iterable[str]) -> list[str]:
    """The options that agree with a name in most folders, from the last one backwards; none where a folder of both
    differs right before the file.
    """
    agreeing = {option: _agreement(name, option) for option in options}
    most = max((count for count in agreeing.values()), default=0)
    return [option for option, count in agreeing.items() if count == most > 0]


def _agreement(one: str, other: str) -> int:
    """How many parts two names have in common at their ends; 0 where only the file is, and both have folders."""
    a, b = PurePosixPath(one).parts[::-1], PurePosixPath(other).parts[::-1]
    shorter = min(len(a), len(b))
    common = next((n for n in range(shorter) if a[n] != b[n]), shorter)
    return common if common > 1 or common == shorter else 0
