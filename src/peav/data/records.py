"""Tables of clips as plain records: JSON lines, CSV with a line of names, Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from peav.errors import ManifestError
from peav.utils.checks import shown
from peav.utils.text import lines, parse_json, read_text, table

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")
NUMBERS = ("start", "end", "duration")
NESTED = ("captions", "synthetic", "events", "words")


def read_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each record of a manifest with its place, FILE:LINE, for messages; of Parquet, FILE:ROW.

    Cells of CSV are texts, but times and `fold` are numbers, and captions, synthetic, events and words are JSON. Empty
    cells are absent.

    Raises:
        ManifestError: the file is missing, of another kind, or a line cannot be read.
    """
    if not path.is_file():
        raise ManifestError(f"{path}: no such manifest; give a file in {', '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        yield from _from_parquet(path)
    elif path.suffix in (".csv", ".tsv"):
        yield from _from_csv(path)
    else:
        yield from _from_json(path)


def _from_json(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in lines(read_text(path, ManifestError)):
        where = f"{path}:{number}"
        record = parse_json(line, where, ManifestError)
        if not isinstance(record, dict):
            raise ManifestError(f"{where}: a row must be a JSON object, not {type(record).__name__}")
        yield where, record


def _from_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with pq.ParquetFile(path) as file:  # a manifest may have more rows than fit in memory as records
            records = chain.from_iterable(batch.to_pylist() for batch in file.iter_batches(1024))
            for number, record in enumerate(records, start=1):
                yield f"{path}:{number}", record
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ManifestError(f"{path}: not a Parquet file that can be read ({error}); write it again") from error


def _from_csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = table(read_text(path, ManifestError), "\t" if path.suffix == ".tsv" else ",", str(path), ManifestError)
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
