"""Tables of clips as plain records: JSON lines, CSV with a line of names, Parquet, Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from peav.errors import ManifestError
from peav.utils.checks import shown
from peav.utils.text import parse_json, table, text_lines

COLUMNAR = (".parquet", ".arrow")
SUFFIXES = (".jsonl", ".csv", ".tsv", *COLUMNAR)
NUMBERS = ("start", "end", "duration")
NESTED = ("captions", "synthetic", "events", "words")


def read_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each record of a manifest with its place, FILE:LINE, for messages; of Parquet and Arrow, FILE:ROW. Of text one
    line is in memory at a time.

    Cells of CSV are texts, but times and `fold` are numbers, and captions, synthetic, events and words are JSON. Empty
    cells are absent.

    Raises:
        ManifestError: the file is missing, of another kind, or a line cannot be read.
    """
    if not path.is_file():
        raise ManifestError(f"{path}: no such manifest; give a file in {', '.join(SUFFIXES)}")
    if path.suffix in COLUMNAR:
        yield from _from_columns(path)
    elif path.suffix in (".csv", ".tsv"):
        yield from _from_csv(path)
    else:
        yield from _from_json(path)


def _from_json(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text_lines(path, ManifestError), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        record = parse_json(line.rstrip("\r\n"), where, ManifestError)
        if not isinstance(record, dict):
            raise ManifestError(f"{where}: a row must be a JSON object, not {type(record).__name__}")
        yield where, record


def _from_columns(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    records = chain.from_iterable(batch.to_pylist() for batch in read_batches(path, 1024))
    for number, record in enumerate(records, start=1):
        yield f"{path}:{number}", record


def read_batches(path: Path, rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of a `.parquet` or `.arrow` manifest, at most so many at a time.

    Raises:
        ManifestError: it cannot be read.
    """
    kind = path.suffix[1:].title()
    try:
        with pa.memory_map(str(path)) as file:
            if path.suffix == ".parquet":
                yield from pq.ParquetFile(file).iter_batches(rows)
            else:
                for batch in arrow_batches(file):
                    batch.validate(full=True)  # the bytes are a stranger's
                    yield from (batch.slice(first, rows) for first in range(0, len(batch), rows))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ManifestError(f"{path}: not a {kind} file that can be read ({error}); write it again") from error


def arrow_batches(file: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow IPC file, or of a stream in a file."""
    try:
        reader = pa.ipc.open_file(file)
    except pa.ArrowInvalid:
        file.seek(0)
        yield from pa.ipc.open_stream(file)
        return
    yield from map(reader.get_batch, range(reader.num_record_batches))


def _from_csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = table(text_lines(path, ManifestError), "\t" if path.suffix == ".tsv" else ",", str(path), ManifestError)
    for where, cells in rows:
        yield where, {name: _value(name, cell, where) for name, cell in cells.items() if cell != ""}


def _value(name: str, cell: str, where: str) -> Any:
    if name in NESTED:
        return parse_json(cell, f"{where}: {name}", ManifestError)
    if name in NUMBERS or name == "fold":
        try:
            return int(cell) if name == "fold" else float(cell)
        except ValueError as error:
            raise ManifestError(f"{where}: {name} must be a number, not {shown(cell)}") from error
    return cell
