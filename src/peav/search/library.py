"""The library: a Parquet file with one row per window of every file, written in parts so that little is ever lost.

Columns: `path` (absolute), `modality`, `start`, `end`, `duration` (seconds), `audio`, `video`, `audio_video` (lists of
D float32, null where the window lacks the stream), `model` (fingerprint), `size` (bytes), `mtime` (ns since 1970).
The file's metadata has the model's fingerprint and name, and the length of the windows in seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from peav.checkpoint.identity import FORMER_DIGITS, same_model
from peav.errors import LibraryError
from peav.jobs import Pace, Version
from peav.types import MODALITIES
from peav.utils.atomic import atomic_write
from peav.utils.lock import FolderLock

ROWS_PER_PART = 256
DEFAULT_WINDOW = 5.0
"""Seconds of a new library's windows; `benchmarks/moments.py` compares lengths (docs/search.md)."""
VERSION = ("path", "size", "mtime")
WINDOW = (*VERSION, "start")
UNFINISHED = b"peav.unfinished"
ANEW = ", with --no-resume (in Python: resume=False)"


@dataclass(frozen=True, eq=False)
class LibraryRow:
    """One window of one file; `embeddings` maps a space to (D,) float32."""

    path: str
    modality: str
    start: float
    end: float
    duration: float
    size: int
    mtime: int
    embeddings: dict[str, np.ndarray]


def schema(dim: int, model_id: str, model_name: str, window: float) -> pa.Schema:
    """The columns and the metadata of a library."""
    vector = pa.list_(pa.float32())  # of a fixed length, pyarrow reads no nulls before 26
    fields = [
        ("path", pa.string()),
        ("modality", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("duration", pa.float64()),
        *((space, vector) for space in MODALITIES),
        ("model", pa.string()),
        ("size", pa.int64()),
        ("mtime", pa.int64()),
    ]
    metadata = {"peav.model_id": model_id, "peav.model": model_name, "peav.window": repr(float(window))}
    metadata["peav.dim"] = str(dim)
    return pa.schema(fields, metadata=metadata)


def open_library(path: str | os.PathLike[str], model_id: str | None = None) -> pq.ParquetFile:
    """Open a library for streaming; close it after use.

    Raises:
        LibraryError: no such file, not a library, or (with `model_id`) one that another model made.
    """
    path = Path(path)
    if not path.is_file():
        unfinished = f"; {parts_folder(path)} holds an unfinished one: run the same `peav embed` again to complete it"
        hint = unfinished if parts_folder(path).is_dir() else "; make one with `peav embed PATHS -o lib.parquet`"
        raise LibraryError(f"{path}: no such library{hint}")
    try:
        file = pq.ParquetFile(path, memory_map=True)
    except pa.ArrowInvalid as error:
        raise LibraryError(f"{path}: not a Parquet file; give the file that `peav embed -o` wrote") from error
    metadata = file.schema_arrow.metadata or {}
    if b"peav.model_id" not in metadata:
        file.close()
        raise LibraryError(f"{path}: a Parquet file, but not a library that `peav embed` wrote")
    made_by, name = model_of(file)
    if model_id is not None and not same_model(made_by, model_id):
        file.close()
        if len(made_by) == FORMER_DIGITS:
            raise LibraryError(
                f"{path}: made by model {name!r} with an older peav, which did not note all of the model's weights; "
                f"embed the files anew{ANEW}"
            )
        raise LibraryError(
            f"{path}: made by model {name!r} ({made_by}), not by this one ({model_id}); "
            f"use model {name}, or embed the files anew with this one{ANEW}"
        )
    return file


def model_of(library: pq.ParquetFile) -> tuple[str, str]:
    """`(fingerprint, name)` of the model that made a library."""
    metadata = library.schema_arrow.metadata
    return metadata[b"peav.model_id"].decode(), metadata[b"peav.model"].decode()


def window_of(library: pq.ParquetFile) -> float | None:
    """Seconds per window; None for a library made before this was noted."""
    noted = library.schema_arrow.metadata.get(b"peav.window")
    return None if noted is None else float(noted)


def batches(
    library: pq.ParquetFile, columns: Sequence[str] | None = None, size: int = 65536
) -> Iterator[pa.RecordBatch]:
    """The rows of a library, so many at a time."""
    # pyarrow 18 reads no batches of a file without rows.
    if library.metadata.num_row_groups:
        yield from library.iter_batches(size, columns=None if columns is None else list(columns))


def lock_library(path: Path) -> FolderLock:
    """Held by the one process that may change a library. Raises LibraryError where another holds it."""
    held = f"{path}: another process is writing to it; wait for its end, or give another library"
    return FolderLock(parts_folder(path), LibraryError(held))


class LibraryWriter:
    """Adds files to a library, and keeps what is added whatever becomes of the process.

    Windows are collected into parts in `<library>.parts/`; the one being filled is written again every few seconds, and
    when the writer is closed. Each part notes which files have windows in the parts but are not complete, so that a
    file of many hours goes on where it was; a file that has changed begins anew. `finish` streams the old library and
    the parts into a new one, without windows of files that never became complete, and puts it in place atomically.
    What is already there is known by an 8-byte hash per file, so a million files cost 8 MB here. One process at a time
    writes to a library: use it in a `with` block, or `close` it.

    Args:
        path: of the library.
        dim: width of the embeddings.
        model_id, model_name: of the model that makes them.
        window: seconds of a window; None: that of the library that is there, or `DEFAULT_WINDOW`.
        resume: go on with what is there; else start anew.

    Raises:
        LibraryError: another process is writing; with `resume`, a library or parts by another model or of windows of
            another length than `window` seconds.
    """

    def __init__(
        self, path: Path, dim: int, model_id: str, model_name: str, window: float | None = None, resume: bool = True
    ) -> None:
        self.path, self.model_id, self.resume = path, model_id, resume
        self.parts = parts_folder(path)
        self._pace = Pace()
        self.lock = lock_library(path)
        with ExitStack() as undo:
            undo.callback(self.lock.release)
            if not resume:
                self._clear()
            self.window = self._agreed(window)
            self.schema = schema(dim, model_id, model_name, self.window)
            parts = self._parts()
            self._unfinished = _unfinished(parts)
            known = _hashes(self._files(), VERSION, model_id)
            # Files whose windows are there in part are not done: they go on.
            self.known = known[~_among(known, self._unfinished)]
            # The number of the part being filled and its rows, in one value: interrupted anywhere, it says the same.
            self._filling: tuple[int, list[LibraryRow]] = (1 + max((int(part.stem) for part in parts), default=-1), [])
            self._changed = False
            undo.pop_all()

    def __enter__(self) -> LibraryWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is collected and let other processes write; without `finish` before it, the parts wait for the
        next writer.
        """
        try:
            self.flush()
        finally:
            self.lock.release()

    def has(self, version: Version) -> bool:
        """Whether this version of the file was embedded to its end before."""
        key = _hash(version)
        # Sorted, as unique keys are.
        place = int(np.searchsorted(self.known, key))
        return place < len(self.known) and int(self.known[place]) == key

    def starts(self, version: Version) -> frozenset[float]:
        """Where the windows start that are there of a file that is not complete."""
        return frozenset(self._unfinished.get(version, ()))

    def add(self, row: LibraryRow) -> None:
        """Add a window; its file counts once it is `complete`."""
        self._unfinished.setdefault((row.path, row.size, row.mtime), set()).add(row.start)
        self._filling[1].append(row)
        self._changed = True
        if len(self._filling[1]) >= ROWS_PER_PART:
            self.flush()

    def complete(self, version: Version) -> None:
        """All windows of the file have been added."""
        self._unfinished.pop(version, None)
        self._changed = True

    def save(self) -> None:
        """Have all that was added on the disk, if it is time: called where the next piece of work may take long."""
        if self._changed and self._pace.due():
            self.flush()

    def flush(self) -> None:
        """Have all that was added on the disk."""
        if not self._changed:
            return
        # Written whole each time, since Parquet cannot be added to; a part is small.
        number, rows = self._filling
        with atomic_write(self.parts / f"{number:06d}.parquet") as temporary:
            pq.write_table(_table(rows, self.schema, list(self._unfinished)), temporary, compression="zstd")
        if len(rows) >= ROWS_PER_PART:
            self._filling = (number + 1, [])
        self._changed = False

    def finish(self) -> int:
        """Merge the parts into the library, close, and return its number of rows.

        New rows of a path replace its old ones.
        """
        self.flush()
        sources = self._files()
        # Else there is nothing new, and the library stays as it is.
        if self.path not in sources or len(sources) > 1:
            keep = _wanted(sources, self.model_id, self._unfinished)
            with atomic_write(self.path) as file, pq.ParquetWriter(file, self.schema, compression="zstd") as out:
                _copy(sources, out, keep)
        # A kill before this leaves rows both here and in the parts: `_wanted` takes each once.
        self._clear()
        with open_library(self.path, self.model_id) as library:
            rows = int(library.metadata.num_rows)
        self.close()
        return rows

    def _files(self) -> list[Path]:
        old = [self.path] if self.resume and self.path.exists() else []
        return old + self._parts()

    def _parts(self) -> list[Path]:
        return sorted(self.parts.glob("*.parquet"))

    def _clear(self) -> None:
        """Remove the parts, and what a killed process left beside them."""
        for file in self.parts.iterdir():
            if file != self.lock.path:
                file.unlink()

    def _agreed(self, window: float | None) -> float:
        """The length of windows: the one asked for, if any, which must be that of what is there."""
        for source in self._files():
            with open_library(source, self.model_id) as file:
                held = window_of(file)
            if held not in (None, window) and window is not None:
                raise LibraryError(
                    f"{source}: cut into windows of {held} s, not of {window} s; "
                    f"give a window of {held} s, or embed the files anew with this length{ANEW}"
                )
            window = held if window is None else window
        return DEFAULT_WINDOW if window is None else window


def parts_folder(path: Path) -> Path:
    """Where the windows of an unfinished `peav embed` wait."""
    return path.with_name(path.name + ".parts")


def _table(rows: Sequence[LibraryRow], to: pa.Schema, unfinished: Sequence[Version]) -> pa.Table:
    """The rows as a part, each file's windows by their start."""
    # Windows come batch by batch, those of several files mixed: a file's stand together where its first one came.
    first = {path: place for place, path in reversed([(place, row.path) for place, row in enumerate(rows)])}
    rows = sorted(rows, key=lambda row: (first[row.path], row.start))
    model_id = to.metadata[b"peav.model_id"].decode()
    columns = {
        name: pa.array([getattr(row, name) for row in rows], to.field(name).type)
        for name in to.names
        if name not in (*MODALITIES, "model")
    }
    columns["model"] = pa.array([model_id] * len(rows), pa.string())
    for space in MODALITIES:
        columns[space] = pa.array([row.embeddings.get(space) for row in rows], to.field(space).type)
    marked = to.with_metadata({**to.metadata, UNFINISHED: json.dumps(unfinished)})
    return pa.table([columns[name] for name in to.names], schema=marked)


def _unfinished(parts: Sequence[Path]) -> dict[Version, set[float]]:
    """The files that the last part notes as not complete, with the starts of their windows in all parts."""
    if not parts:
        return {}
    with open_library(parts[-1]) as last:
        noted = json.loads(last.schema_arrow.metadata.get(UNFINISHED, b"[]"))
    found: dict[Version, set[float]] = {tuple(version): set() for version in noted}
    for part in parts if found else ():
        with open_library(part) as file:
            for batch in batches(file, WINDOW):
                for *version, start in zip(*(batch.column(name).to_pylist() for name in WINDOW), strict=True):
                    if tuple(version) in found:
                        found[tuple(version)].add(start)
    return found


def _hash(key: Sequence[object]) -> int:
    text = "\0".join(str(part) for part in key)
    # Two of a million files share 64 bits with a chance of 3 in 10^8.
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest())


def _keys(sources: Iterable[Path], columns: Sequence[str], model_id: str) -> np.ndarray:
    """The hash of every row's key, in order."""
    found = [np.empty(0, np.uint64)]
    for source in sources:
        with open_library(source, model_id) as file:
            for batch in batches(file, columns):
                rows = zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
                found.append(np.fromiter((_hash(row) for row in rows), np.uint64, batch.num_rows))
    return np.concatenate(found)


def _hashes(sources: Iterable[Path], columns: Sequence[str], model_id: str) -> np.ndarray:
    """The distinct keys in some libraries, sorted."""
    return np.unique(_keys(sources, columns, model_id))


def _among(keys: np.ndarray, versions: Iterable[Version]) -> np.ndarray:
    """(keys,) bool: which are of some versions."""
    # Sorted, since NumPy 2.0 overflows where it tries a table of 64-bit keys.
    return np.isin(keys, np.array([_hash(version) for version in versions], np.uint64), kind="sort")


def _wanted(sources: Sequence[Path], model_id: str, unfinished: Iterable[Version]) -> np.ndarray:
    """(rows,) bool: of each path the version that came last, of each of its windows the last one; nothing of files that
    are not complete. A window stands twice where a process was killed between merging the parts and removing them.
    """
    paths, versions, rows = (_keys(sources, columns, model_id) for columns in (("path",), VERSION, WINDOW))
    complete = ~_among(versions, unfinished)
    last = _last(paths, complete)
    newest = dict(zip(paths[last].tolist(), versions[last].tolist(), strict=True))
    wanted = np.fromiter((newest.get(path, 0) for path in paths.tolist()), np.uint64, len(paths)) == versions
    keep = np.zeros(len(rows), bool)
    keep[_last(rows, complete & wanted)] = True
    return keep


def _last(keys: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The places of the last occurrence of each key among some."""
    places = np.flatnonzero(among)[::-1]
    # unique finds the first of equals, and the places run backwards.
    return places[np.unique(keys[places], return_index=True)[1]]


def _copy(sources: Sequence[Path], out: pq.ParquetWriter, keep: np.ndarray) -> None:
    """Append the rows of `sources`, one after the other, that are to be kept."""
    at = 0
    for source in sources:
        with open_library(source) as file:
            for batch in batches(file):
                rows = batch.filter(pa.array(keep[at : at + batch.num_rows]))
                at += batch.num_rows
                out.write_table(pa.table(rows).cast(out.schema))
