"""What a library holds, and how it follows its files: those that have gone leave, those that moved are known again."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from peav.errors import LibraryError
from peav.jobs import Version, version_of
from peav.media.find import media_files
from peav.search.library import batches, lock_library, model_of, open_library, parts_folder, window_of
from peav.utils.atomic import atomic_write
from peav.utils.jsonl import read_lines

State = Literal["there", "changed", "gone"]
COLUMNS = ("path", "size", "mtime", "modality", "duration")


@dataclass(frozen=True)
class LibraryFile:
    """A file of a library. `state` compares it with the disk: there, changed since, or gone."""

    path: str
    modality: str
    duration: float
    windows: int
    state: State


def library_files(library: str | os.PathLike[str]) -> list[LibraryFile]:
    """The files of a library, in its order. Raises LibraryError."""
    windows, of_file = _windows(Path(library))
    return [LibraryFile(v[0], *of_file[v], windows[v], _state(v)) for v in windows]


def library_info(library: str | os.PathLike[str]) -> dict[str, Any]:
    """Counts and facts: `model`, `model_id`, `window` (seconds), `files`, `windows`, `hours`, `bytes`, files by `state`
    and the number that `failed`. Raises LibraryError.
    """
    path = Path(library)
    files = library_files(path)
    with open_library(path) as file:
        model_id, name = model_of(file)
        window = window_of(file)
    return {
        "library": str(path),
        "model": name,
        "model_id": model_id,
        "window": window,
        "files": len(files),
        "windows": sum(file.windows for file in files),
        "hours": round(sum(file.duration for file in files) / 3600, 4),
        "bytes": path.stat().st_size,
        "state": {state: sum(file.state == state for file in files) for state in ("there", "changed", "gone")},
        "failed": len(_failures(path, files)),
    }


def library_failures(library: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of `failures.jsonl` beside a library that are about its files: `path`, `error`, `reason`."""
    path = Path(library)
    return _failures(path, library_files(path) if path.exists() else ())


def _failures(library: Path, files: Iterable[LibraryFile]) -> list[dict[str, Any]]:
    lines = read_lines(library.with_name("failures.jsonl"))
    newest = {line["path"]: line for line in lines if line.get("library") == library.name and "path" in line}
    done = {file.path for file in files}
    return [line for name, line in newest.items() if name not in done]


def remove_files(library: str | os.PathLike[str], paths: Iterable[str | os.PathLike[str]]) -> int:
    """Take files, and all files below folders, out of a library; the files themselves stay. Returns how many left.

    Raises:
        LibraryError: no library, one that a process writes to, or a path that none of its files has.
    """
    path = Path(library)
    with lock_library(path):
        held = [version[0] for version in _windows(path)[0]]
        gone: set[str] = set()
        for one in paths:
            wanted = os.path.abspath(one)
            found = {name for name in held if name == wanted or name.startswith(wanted.rstrip(os.sep) + os.sep)}
            if not found:
                raise LibraryError(f"{path}: has no file {wanted}; `peav library list` shows those it has")
            gone |= found
        _rewrite(path, dict.fromkeys(gone))
    return len(gone)


def sync_files(library: str | os.PathLike[str], folders: Sequence[str | os.PathLike[str]] = ()) -> dict[str, int]:
    """Let a library follow its files: what moved is known by its new path, what has gone leaves.

    A file that has gone is one that moved where one of `folders` has a single new file of its size and modification
    time. Nothing is embedded: `peav embed` adds what is new or has changed.

    Returns:
        Counts: `moved`, `removed`, `kept`.

    Raises:
        LibraryError: no library, or one that a process writes to. MissingFileError: none of the folders is there.
    """
    path = Path(library)
    with lock_library(path):
        versions = list(_windows(path)[0])
        gone = [version for version in versions if _state(version) == "gone"]
        moved = _moved(gone, {version[0] for version in versions}, folders)
        changes = {version[0]: moved.get(version) for version in gone}
        if changes:
            _rewrite(path, changes)
    return {"moved": len(moved), "removed": len(gone) - len(moved), "kept": len(versions) - len(gone)}


def _moved(gone: Sequence[Version], held: set[str], folders: Sequence[str | os.PathLike[str]]) -> dict[Version, str]:
    """Where files that have gone are now: new files of the same size and time, one for each."""
    if not gone or not folders:
        return {}
    files = [str(file.absolute()) for file in media_files(folders)]
    new = [version_of(Path(file)) for file in files if file not in held]
    places: dict[tuple[int, int], list[str]] = {}
    for name, *mark in new:
        places.setdefault((mark[0], mark[1]), []).append(name)
    times = Counter(version[1:] for version in gone)
    return {v: places[v[1:]][0] for v in gone if len(places.get(v[1:], ())) == 1 == times[v[1:]]}


def _windows(library: Path) -> tuple[dict[Version, int], dict[Version, tuple[str, float]]]:
    """The number of windows of each file, in the library's order, and its modality and duration."""
    windows: Counter[Version] = Counter()
    facts: dict[Version, tuple[str, float]] = {}
    with open_library(library) as file:
        for batch in batches(file, COLUMNS):
            for name, size, mtime, *fact in zip(*(batch.column(c).to_pylist() for c in COLUMNS), strict=True):
                windows[name, size, mtime] += 1
                facts.setdefault((name, size, mtime), (fact[0], fact[1]))
    return dict(windows), facts


def _state(version: Version) -> State:
    now = version_of(Path(version[0]))
    return "there" if now == version else "gone" if now[1] < 0 else "changed"


def _rewrite(library: Path, changes: Mapping[str, str | None]) -> None:
    """Give rows another path, or take them out where it is None; the new library takes the old one's place at once."""
    if any(parts_folder(library).glob("*.parquet")):
        raise LibraryError(f"{library}: an unfinished `peav embed` waits in it; run it again to complete it first")
    with (
        open_library(library) as old,
        atomic_write(library) as temporary,
        pq.ParquetWriter(temporary, old.schema_arrow, compression="zstd") as out,
    ):
        for batch in batches(old):
            paths = [changes.get(name, name) for name in batch.column("path").to_pylist()]
            place = batch.schema.get_field_index("path")
            rows = batch.set_column(place, "path", pa.array(paths, pa.string()))
            out.write_table(pa.table(rows).filter(np.array([name is not None for name in paths])))


def to_dicts(files: Iterable[LibraryFile]) -> list[dict[str, Any]]:
    """For JSON and CSV."""
    return [asdict(file) for file in files]
