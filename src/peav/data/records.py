"""Tables of clips as plain records: JSON lines, CSV with a line of names, Parquet, Arrow."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from peav.errors import ManifestError, StorageError
from peav.utils.checks import shown
from peav.utils.storage import is_remote, open_binary, read_all
from peav.utils.text import decode, parse_json, table, text_lines

COLUMNAR = (".parquet", ".arrow")
SUFFIXES = (".jsonl", ".csv", ".tsv", *COLUMNAR)
NUMBERS = ("start", "end", "duration")
NESTED = ("captions", "synthetic", "events", "words")


def read_records(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each record of a manifest with its place, FILE:LINE, for messages; of Parquet and Arrow, FILE:ROW. Of text on
    disk one line is in memory at a time.

    Cells of CSV are texts, but times and `fold` are numbers, and captions, synthetic, events and words are JSON. Empty
    cells are absent.

    Raises:
        ManifestError: the file is missing, of another kind, or a line cannot be read. StorageError: of an address.
    """
    suffix = Path(path).suffix
    if not is_remote(path) and not Path(path).is_file():
        raise ManifestError(f"{path}: no such manifest; give a file in {', '.join(SUFFIXES)}")
    if suffix in COLUMNAR:
        yield from _from_columns(path)
    elif suffix in (".csv", ".tsv"):
        yield from _from_csv(path)
    else:
        yield from _from_json(path)


def _lines(path: str | Path) -> Iterator[str]:
    """Every line of a text with its end."""
    if not is_remote(path):
        return text_lines(path, ManifestError)
    try:
        return io.StringIO(decode(read_all(path), str(path), ManifestError), newline="")
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: no such manifest; check the address") from error


def _from_json(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        record = parse_json(line.rstrip("\r\n"), where, ManifestError)
        if not isinstance(record, dict):
            raise ManifestError(f"{where}: a row must be a JSON object, not {type(record).__name__}")
        yield where, record


def _from_columns(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    records = chain.from_iterable(batch.to_pylist() for batch in read_batches(path, 1024))
    for number, record in enumerate(records, start=1):
        yield f"{path}:{number}", record


def read_batches(path: str | Path, rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of a `.parquet` or `.arrow` manifest, at most so many at a time.

    Raises:
        ManifestError: it cannot be read. StorageError: of an address.
    """
    suffix = Path(path).suffix
    try:
        with pa.PythonFile(open_binary(path)) if is_remote(path) else pa.memory_map(str(path)) as file:
            if suffix == ".parquet":
                yield from pq.ParquetFile(file).iter_batches(rows)
            else:
                for batch in arrow_batches(file):
                    batch.validate(full=True)  # the bytes are a stranger's
                    yield from (batch.slice(first, rows) for first in range(0, len(batch), rows))
    except StorageError:
        raise
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: no such manifest; check the address") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ManifestError(
            f"{path}: not a {suffix[1:].title()} file that can be read ({error}); write it again"
        ) from error


def arrow_batches(file: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow IPC file, or of a stream in a file."""
    try:
        reader = pa.ipc.open_file(file)
    except pa.ArrowInvalid:
        file.seek(0)
        yield from pa.ipc.open_stream(file)
        return
    yield from map(reader.get_batch, range(reader.num_record_batches))


def _from_csv(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = table(_lines(path), "\t" if Path(path).suffix == ".tsv" else ",", str(path), ManifestError)
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
