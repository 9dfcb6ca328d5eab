"""The library: a Parquet file with one row per window of every file, written in parts so that little is ever lost.

Columns: `path` (absolute), `modality`, `start`, `end`, `duration` (seconds), `audio`, `video`, `audio_video` (lists of
D float32, null where the window lacks the stream), `model` (fingerprint), `size` (bytes), `mtime` (ns since 1970).
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from peav.checkpoint.atomic import atomic_write

SPACES = ("audio", "video", "audio_video")
ROWS_PER_PART = 1024
SECONDS_PER_PART = 30.0
KEY = ("path", "size", "mtime")


class LibraryError(ValueError):
    """A library that is missing, is no library, or was made by another model."""


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


def schema(dim: int, model_id: str, model_name: str) -> pa.Schema:
    """The columns of a library; the model's name and fingerprint are in the file's metadata too."""
    vector = pa.list_(pa.float32(), dim)
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
    return pa.schema(fields, metadata={"peav.model_id": model_id, "peav.model": model_name})


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
    if model_id is not None and made_by != model_id:
        file.close()
        raise LibraryError(
            f"{path}: made by model {name!r} ({made_by}), not by this one ({model_id}); "
            f"give --model {name}, or embed the files anew with this model (--no-resume)"
        )
    return file


def model_of(library: pq.ParquetFile) -> tuple[str, str]:
    """`(fingerprint, name)` of the model that made a library."""
    metadata = library.schema_arrow.metadata
    return metadata[b"peav.model_id"].decode(), metadata[b"peav.model"].decode()


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
    by an 8-byte hash per file, so a million files cost 8 MB here.

    Raises:
        LibraryError: with `resume`, a library or parts that another model made.
    """

    path: Path
    dim: int
    model_id: str
    model_name: str
    resume: bool = True
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.schema = schema(self.dim, self.model_id, self.model_name)
        self.parts = _parts_folder(self.path)
        self.flushed = time.monotonic()
        if not self.resume:
            shutil.rmtree(self.parts, ignore_errors=True)
        self.parts.mkdir(parents=True, exist_ok=True)
        self.known = _hashes(self._files(), KEY, self.model_id)

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
        """Merge the parts into the library and return its number of rows; new rows of a path replace its old ones."""
        self.flush()
        sources = self._files()
        if self.path not in sources or len(sources) > 1:
            newest = _newest(sources, self.model_id)
            with atomic_write(self.path) as file, pq.ParquetWriter(file, self.schema, compression="zstd") as out:
                for place, source in enumerate(sources):
                    _copy(source, out, newest, place)
        shutil.rmtree(self.parts)
        with open_library(self.path, self.model_id) as library:
            return int(library.metadata.num_rows)

    def _files(self) -> list[Path]:
        old = [self.path] if self.resume and self.path.exists() else []
        return old + self._parts()

    def _parts(self) -> list[Path]:
        return sorted(self.parts.glob("*.parquet"))


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
        dim = to.field(space).type.list_size
        missing = np.array([space not in row.embeddings for row in rows])
        values = np.stack([row.embeddings.get(space, np.zeros(dim, np.float32)) for row in rows])
        flat = pa.array(values.ravel(), pa.float32())
        columns[space] = pa.FixedSizeListArray.from_arrays(flat, dim, mask=pa.array(missing))
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
            out.write_table(pa.table(batch.filter(pa.array(keep))).replace_schema_metadata(out.schema.metadata))
