"""Makes tables (see `data.table`) of large manifests: once, by one process; whoever comes later finds them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from peav.data.columns import PATHS, ROWS, doubtful, facts, typed_batches
from peav.data.manifest import Row, parse_row, twice
from peav.data.records import COLUMNAR, arrow_batches, read_records
from peav.data.sampler import LARGE
from peav.data.table import ABOUT, LINE, RECORD, Piece, RowStore, RowTable
from peav.data.table_index import FACTS, IndexWriter, length
from peav.errors import ManifestError
from peav.utils.atomic import sync
from peav.utils.lock import FolderLock
from peav.utils.storage import version_mark, write_all

FORMAT = 2  # of a table: one of another format is made again
FOLDER = "manifests"  # in the cache of a run
WAIT = 0.5  # seconds between two looks at whether another process is done
JSON_SCHEMA = pa.schema({RECORD: pa.large_string(), LINE: pa.int64()})

Progress = Callable[[int], None]


def find_table(manifests: Sequence[str], cache: str | Path) -> RowTable | None:
    """The table of these manifests as they are now, if it was made."""
    folder = _place(manifests, cache)
    return RowTable(folder) if (folder / ABOUT).is_file() else None


def make_table(manifests: Sequence[str], cache: str | Path, progress: Progress = lambda done: None) -> RowTable:
    """The rows of all `manifests` as a table, made in `cache` where it is not there; another process that asks for it
    meanwhile waits.

    It is found again by the manifests' paths, sizes and times of change.

    Args:
        progress: told how many rows are done.

    Raises:
        ManifestError: as `read_manifest` and `unique` do, naming file and line.
    """
    folder = _place(manifests, cache)
    with _alone(folder.with_suffix(".making")):
        if (folder / ABOUT).is_file():
            return RowTable(folder)
        unfinished = folder.with_suffix(".tmp")
        shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
        unfinished.mkdir(parents=True)
        try:
            _write(unfinished, manifests, progress)
            unfinished.replace(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        sync(folder.parent)
    return RowTable(folder)


def count_rows(manifests: Sequence[str], most: int | None = None) -> int:
    """About how many rows manifests have (of text, its lines), or some number above `most`. Missing ones have none."""
    count = 0
    for path in filter(os.path.isfile, manifests):
        count += _rows_in(Path(path), most)
        if most is not None and count > most:
            break
    return count


def is_large(manifests: Sequence[str]) -> bool:
    """Whether manifests have so many rows that they are read from a table, and not held in memory."""
    return count_rows(manifests, LARGE) > LARGE


def _rows_in(path: Path, most: int | None) -> int:
    try:
        if path.suffix == ".parquet":
            return int(pq.read_metadata(path).num_rows)
        if path.suffix == ".arrow":
            with pa.memory_map(str(path)) as file:
                return sum(map(len, arrow_batches(file)))
    except (pa.ArrowException, OSError):
        return 0  # who reads it says what is wrong
    if most is not None and path.stat().st_size < 2 * most:  # no row has less than two letters
        return 0
    count = 0
    with open(path, "rb") as file:
        while (part := file.read(2**24)) and (most is None or count <= most):
            count += part.count(b"\n")
    return count


def _place(manifests: Sequence[str], cache: str | Path) -> Path:
    try:
        versions = [(os.path.abspath(path), version_mark(path)) for path in manifests]
    except FileNotFoundError as error:
        raise ManifestError(f"{error.filename}: no such manifest; check the path") from error
    digest = hashlib.sha256(json.dumps([FORMAT, versions]).encode()).hexdigest()
    return Path(cache) / FOLDER / digest[:24]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process is in here."""
    while True:
        try:
            lock = FolderLock(folder)
            break
        except BlockingIOError:
            time.sleep(WAIT)
    with lock:
        yield


def _write(folder: Path, manifests: Sequence[str], progress: Progress) -> None:
    with IndexWriter(folder) as index, _RowWriter(folder) as rows:
        for manifest in manifests:
            path = Path(manifest)
            for batch, told, said in _columnar(path) if path.suffix in COLUMNAR else _text(path):
                index.add(told)
                rows.add(os.path.abspath(manifest), batch, said)
                progress(index.rows)
    if not index.rows:
        raise ManifestError(f"{', '.join(manifests)}: no rows; check the path")
    groups, pieces = [asdict(group) for group in index.finish()], [asdict(piece) for piece in rows.pieces]
    about = {"groups": groups, "pieces": pieces, "digest": rows.digest.hexdigest()}
    write_all(folder / ABOUT, json.dumps(about))
    _refuse_repeated(RowStore(folder), index.repeated())


Batches = Iterator[tuple[pa.RecordBatch, pa.RecordBatch, bytes]]
"""Rows, their facts for the index, and all that they say but for where their files lie."""


def _columnar(path: Path) -> Batches:
    """Of a manifest with typed columns, whose rows are found to be right."""
    first = 1
    for batch in typed_batches(path):
        for place in doubtful(batch).tolist():
            parse_row(batch.slice(place, 1).to_pylist()[0], path.parent, f"{path}:{first + place}")
        said = batch.select([name for name in batch.schema.names if name not in PATHS])
        yield batch, facts(batch), said.serialize()
        first += len(batch)


def _text(path: Path) -> Batches:
    """Of a text manifest, as JSON."""
    records = read_records(path)
    while some := list(islice(records, ROWS)):
        rows = [parse_row(record, path.parent, where) for where, record in some]
        lines = [int(where.rpartition(":")[2]) for where, _ in some]
        written = pa.array([json.dumps(record) for _, record in some], pa.large_string())
        batch = pa.RecordBatch.from_arrays([written, pa.array(lines)], schema=JSON_SCHEMA)
        told = pa.RecordBatch.from_pylist(list(map(_facts, rows)), schema=FACTS)
        said = json.dumps([[record[name] for name in record if name not in PATHS] for _, record in some])
        yield batch, told, said.encode()


def _facts(row: Row) -> dict[str, Any]:
    fold = row.extra.get("fold")
    return {
        "id": row.id,
        "split": row.split,
        "source": row.source,
        "fold": fold if fold is not None and abs(fold) < 2**63 else None,
        "seconds": length(row),
        "audio_path": row.audio_path is not None,
        "video_path": row.video_path is not None,
        "transcript": bool(row.transcript),
        "license": row.license,
    }


class _RowWriter(AbstractContextManager["_RowWriter"]):
    """Writes batches to Arrow files, a new one where columns change."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pieces, self.digest = folder, list[Piece](), hashlib.sha256()
        self._names: list[str] = []
        self._schema: pa.Schema | None = None
        self._file: Any = None
        self._writer: Any = None

    def add(self, manifest: str, batch: pa.RecordBatch, said: bytes) -> None:
        """The next rows of a manifest."""
        if self._writer is None or batch.schema != self._schema:
            self._close()
            self._names.append(f"rows-{len(self._names):05d}.arrow")
            self._file = open(self.folder / self._names[-1], "wb")  # noqa: SIM115
            self._writer, self._schema = pa.ipc.new_file(self._file, batch.schema), batch.schema
        last = self.pieces[-1] if self.pieces else None
        number = last.batch + 1 if last is not None and last.file == self._names[-1] else 0
        row = last.row + last.rows if last is not None and last.manifest == manifest else 0
        self.pieces.append(
            Piece(self._names[-1], number, manifest, row, len(batch), json=batch.schema.equals(JSON_SCHEMA))
        )
        self._writer.write_batch(batch)
        self.digest.update(said)

    def __exit__(self, *error: object) -> None:
        self._close()

    def _close(self) -> None:
        """Have what was written on the disk."""
        if self._writer is not None:
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._writer = None


def _refuse_repeated(rows: RowStore, numbers: Iterator[int]) -> None:
    """Raises ManifestError where an id stands twice among the rows of these numbers."""
    places: dict[str, str] = {}
    for number in numbers:
        identity, where = rows.row(number).id, rows.where(number)
        if identity in places:
            raise twice(identity, where, places[identity])
        places[identity] = where
