"""The library: a Parquet file with one row per window of every file, written in parts so that little is ever lost.

Columns: `path` (absolute), `modality`, `start`, `end`, `duration` (seconds), `audio`, `video`, `audio_video` (lists of
D float32, null where the window lacks the stream), `model` (fingerprint), `size` (bytes), `mtime` (ns since 1970).
The file's metadata has the model's fingerprint and name, and the length of the windows in seconds.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from peav.checkpoint.identity import FORMER_DIGITS, same_model
from peav.utils.atomic import atomic_write
from peav.utils.lock import FolderLock

SPACES = ("audio", "video", "audio_video")
ROWS_PER_PART = 1024
SECONDS_PER_PART = 30.0
KEY = ("path", "size", "mtime")


class LibraryError(ValueError):
    """A library that is missing, is no library, was made in another way, or is being written by another process."""


@dataclass(frozen=True, eq=False)
class Row:
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
        *((space, vector) for space in SPACES),
        ("model", pa.string()),
        ("size", pa.int64()),
        ("mtime", pa.int64()),
    ]
    metadata = {"peav.model_id": model_id, "peav.model": model_name, "peav.window": repr(float(window))}
    metadata["peav.dim"] = str(dim)
    return pa.schema(fields, metadata=metadata)


def open_library(path: Path, model_id: str | None = None) -> pq.ParquetFile:
    """Open a library for streaming; close it after use.

    Raises:
        LibraryError: no such file, not a library, or (with `model_id`) one that another model made.
    """
    if not path.is_file():
        unfinished = f"; {_parts_folder(path)} holds an unfinished one: run the same `peav embed` again to complete it"
        hint = unfinished if _parts_folder(path).is_dir() else "; make one with `peav embed PATHS -o lib.parquet`"
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
                "embed the files anew (--no-resume)"
            )
        raise LibraryError(
            f"{path}: made by model {name!r} ({made_by}), not by this one ({model_id}); "
            f"give --model {name}, or embed the files anew with this model (--no-resume)"
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


def is_library(path: Path) -> bool:
    """Whether there is a library at `path`."""
    try:
        open_library(path).close()
    except LibraryError:
        return False
    return True


@dataclass
class LibraryWriter:
    """Adds files to a library; nothing is lost but the part being filled when the process is killed.

    Whole files are collected into parts of 1024 rows or 30 s in `<library>.parts/`, each written atomically; `finish`
    streams the old library and the parts into a new one and puts it in place atomically. What is already there is known
    by an 8-byte hash per file, so a million files cost 8 MB here. One process at a time writes to a library: use it in
    a `with` block, or `close` it.

    Raises:
        LibraryError: another process is writing; with `resume`, a library or parts by another model or of windows of
            another length than `window` seconds.
    """

    path: Path
    dim: int
    model_id: str
    model_name: str
    window: float
    resume: bool = True
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.schema = schema(self.dim, self.model_id, self.model_name, self.window)
        self.parts = _parts_folder(self.path)
        self.flushed = time.monotonic()
        try:
            self.lock = FolderLock(self.parts)
        except BlockingIOError as error:
            raise LibraryError(
                f"{self.path}: another `peav embed` is writing to it; wait for its end, or give another library to -o"
            ) from error
        with ExitStack() as undo:
            undo.callback(self.close)
            if not self.resume:
                self._clear()
            self._check_windows()
            self.known = _hashes(self._files(), KEY, self.model_id)
            undo.pop_all()

    def __enter__(self) -> LibraryWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes write; without `finish` before it, what was flushed waits for the next writer."""
        self.lock.release()

    def has(self, path: str, size: int, mtime: int) -> bool:
        """Whether this version of the file is embedded already."""
        key = _hash((path, size, mtime))
        place = int(np.searchsorted(self.known, key))
        return place < len(self.known) and int(self.known[place]) == key

    def add(self, rows: Sequence[Row]) -> None:
        """Add all windows of one file."""
        self.rows.extend(rows)
        if len(self.rows) >= ROWS_PER_PART or time.monotonic() - self.flushed > SECONDS_PER_PART:
            self.flush()

    def flush(self) -> None:
        """Write the collected rows as a part."""
        if not self.rows:
            return
        number = 1 + max((int(part.stem) for part in self.parts.glob("*.parquet")), default=-1)
        with atomic_write(self.parts / f"{number:06d}.parquet") as temporary:
            pq.write_table(_table(self.rows, self.schema), temporary, compression="zstd")
        self.rows = []
        self.flushed = time.monotonic()

    def finish(self) -> int:
        """Merge the parts into the library, close, and return its number of rows.

        New rows of a path replace its old ones.
        """
        self.flush()
        sources = self._files()
        if self.path not in sources or len(sources) > 1:
            newest = _newest(sources, self.model_id)
            with atomic_write(self.path) as file, pq.ParquetWriter(file, self.schema, compression="zstd") as out:
                for place, source in enumerate(sources):
                    _copy(source, out, newest, place)
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

    def _check_windows(self) -> None:
        for source in self._files():
            with open_library(source, self.model_id) as file:
                held = window_of(file)
            if held not in (None, self.window):
                raise LibraryError(
                    f"{source}: cut into windows of {held} s, not of {self.window} s; "
                    f"give --window {held}, or embed the files anew with this length (--no-resume)"
                )


def _parts_folder(path: Path) -> Path:
    return path.with_name(path.name + ".parts")


def _table(rows: Sequence[Row], to: pa.Schema) -> pa.Table:
    model_id = to.metadata[b"peav.model_id"].decode()
    columns = {
        name: pa.array([getattr(row, name) for row in rows], to.field(name).type)
        for name in to.names
        if name not in (*SPACES, "model")
    }
    columns["model"] = pa.array([model_id] * len(rows))
    for space in SPACES:
        columns[space] = pa.array([row.embeddings.get(space) for row in rows], to.field(space).type)
    return pa.table([columns[name] for name in to.names], schema=to)


def _hash(key: Sequence[object]) -> int:
    text = "\0".join(str(part) for part in key)
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest())


def _keys(file: pq.ParquetFile, columns: Sequence[str]) -> Iterator[np.ndarray]:
    """The hash of every row's key, batch by batch."""
    for batch in file.iter_batches(columns=list(columns)):
        yield _row_keys(batch, columns)


def _row_keys(batch: pa.RecordBatch, columns: Sequence[str]) -> np.ndarray:
    rows = zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
    return np.fromiter((_hash(row) for row in rows), np.uint64, batch.num_rows)


def _hashes(sources: Iterable[Path], columns: Sequence[str], model_id: str) -> np.ndarray:
    """The distinct keys in some libraries, sorted."""
    found = [np.empty(0, np.uint64)]
    for source in sources:
        with open_library(source, model_id) as file:
            found.extend(_keys(file, columns))
    return np.unique(np.concatenate(found))


def _newest(sources: Sequence[Path], model_id: str) -> tuple[np.ndarray, np.ndarray]:
    """`(paths, places)`: the distinct path hashes, sorted, and the last source that has each."""
    keys = [_hashes([source], ("path",), model_id) for source in sources]
    places = np.repeat(np.arange(len(keys)), [len(part) for part in keys])
    paths, last = np.unique(np.concatenate([np.empty(0, np.uint64), *keys])[::-1], return_index=True)
    return paths, places[::-1][last]


def _copy(source: Path, out: pq.ParquetWriter, newest: tuple[np.ndarray, np.ndarray], place: int) -> None:
    """Append the rows of `source` whose path is in no later source."""
    paths, places = newest
    with open_library(source) as file:
        for batch in file.iter_batches():
            keep = places[np.searchsorted(paths, _row_keys(batch, ("path",)))] == place
            out.write_table(pa.table(batch.filter(pa.array(keep))).cast(out.schema))
