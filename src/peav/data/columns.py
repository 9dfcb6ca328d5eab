"""Manifests that have typed columns, Parquet and Arrow: their rows are checked by the column, not one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from peav.data.manifest import DEPTH
from peav.data.records import read_batches
from peav.data.table_index import FACTS
from peav.types import MODALITIES

ROWS = 2**16  # of a batch
PATHS = ("path", "audio_path", "video_path")
TEXTS = (*PATHS, "id", "transcript", "split", "source", "license", "licence")


def typed_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a `.parquet` or `.arrow` manifest, at most `ROWS` at a time; raises as `records.read_batches`.

    No column is in a dictionary, of which an Arrow file has only one for all its batches.
    """
    for batch in _joined(read_batches(path, ROWS)):
        flat = {
            name: column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }
        yield pa.RecordBatch.from_pydict(flat)


def _joined(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `ROWS`: of a million small ones the names of the columns would fill the memory."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        waiting, count = [*waiting, batch], count + len(batch)
        if count >= ROWS:
            first, *rest = pa.Table.from_batches(waiting).combine_chunks().to_batches(ROWS)
            yield first
            waiting, count = rest, count - len(first)
    if count:
        yield from pa.Table.from_batches(waiting).combine_chunks().to_batches(ROWS)


def doubtful(batch: pa.RecordBatch) -> np.ndarray:
    """The places of rows that may be no rows of a manifest, (N,) int64: `parse_row` has to say. All others are.

    Timed events and words are always left to it.
    """
    if not all(_is_plain(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)):
        return np.arange(len(batch))
    doubt = np.zeros(len(batch), bool)
    for name in ("words", "events"):
        if name in batch.schema.names and not pa.types.is_null(batch[name].type):
            doubt |= _array(pc.fill_null(pc.greater(pc.list_value_length(batch[name]), 0), False))
    if "fold" in batch.schema.names and pa.types.is_floating(batch["fold"].type):
        doubt |= _array(pc.is_valid(batch["fold"]))
    audio, video = _streams(batch)
    doubt |= _array(pc.and_(pc.is_null(audio), pc.is_null(video)))
    for path in map(_text, [batch] * 3, PATHS):
        doubt |= _array(pc.fill_null(pc.match_substring(path, "\0"), False))
    doubt |= _array(pc.fill_null(pc.equal(_text(batch, "id"), ""), False))
    start, end = _number(batch, "start"), _number(batch, "end")  # (N,) NaN where null
    said = {name: _array(pc.is_valid(batch[name])) for name in ("start", "end") if name in batch.schema.names}
    for name, values in (("start", start), ("end", end)):
        doubt |= said.get(name, np.zeros(len(batch), bool)) & ~(np.isfinite(values) & (values >= 0))
    doubt |= end <= np.nan_to_num(start)
    return np.flatnonzero(doubt)


def facts(batch: pa.RecordBatch) -> pa.RecordBatch:
    """What the index is told of rows that are known to be rows of a manifest, by `FACTS`."""
    audio, video = _streams(batch)
    end, start = _number(batch, "end"), np.nan_to_num(_number(batch, "start"))
    lasts = np.where(np.isnan(end), _number(batch, "duration"), end) - start
    license = pc.coalesce(_text(batch, "license"), _text(batch, "licence"))
    fold = batch["fold"] if "fold" in batch.schema.names else pa.nulls(len(batch))
    columns = {
        "id": pc.coalesce(_text(batch, "id"), audio, video),
        "split": _text(batch, "split"),
        "source": _text(batch, "source"),
        "fold": fold.cast(pa.int64()),
        "seconds": pa.array(lasts, mask=~(lasts >= 0)),
        "audio_path": pc.is_valid(audio),
        "video_path": pc.is_valid(video),
        "transcript": pc.fill_null(pc.not_equal(_text(batch, "transcript"), ""), False),
        "license": license,
    }
    return pa.RecordBatch.from_pydict(columns, schema=FACTS)


def _is_plain(name: str, column: pa.Array) -> bool:
    """Whether every value of a column is of the type that a manifest's has, whatever its rows are otherwise."""
    kind = column.type
    if pa.types.is_null(kind):
        return True
    if name in TEXTS:
        return _is_text(kind)
    if name in ("start", "end"):
        return pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if name == "fold":
        return pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if name in ("text", "caption"):
        return _are_texts(column)
    if name in ("captions", "synthetic"):
        known = pa.types.is_struct(kind) and all(field.name in MODALITIES for field in kind)
        return known and all(map(_are_texts, column.flatten()))
    if name in ("words", "events"):
        return pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return _depth(kind) < DEPTH - 1


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _are_texts(column: pa.Array) -> bool:
    """Whether a column holds texts, or lists of them without nulls."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_text(kind.value_type) and column.flatten().null_count == 0
    return _is_text(kind) or pa.types.is_null(kind)


def _depth(kind: pa.DataType) -> int:
    """How many levels of lists and objects a type has."""
    inner = [kind.field(number).type for number in range(kind.num_fields)]
    return 1 + max(map(_depth, inner)) if inner else 0


def _streams(batch: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
    """The paths of sound and pictures of each row, null where there is none."""
    either, audio, video = (_some(_text(batch, name)) for name in PATHS)
    return pc.coalesce(audio, either), pc.coalesce(video, either)


def _some(texts: pa.Array) -> pa.Array:
    """Null in the place of the empty text."""
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def _text(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column of texts; nulls where there is no such column, or where it holds something else."""
    if name not in batch.schema.names or not _is_text(batch[name].type):
        return pa.nulls(len(batch), pa.string())
    return batch[name].cast(pa.string())


def _number(batch: pa.RecordBatch, name: str) -> np.ndarray:
    """A column of numbers, (N,) float64 with NaN for null; all NaN where it holds something else."""
    kind = batch[name].type if name in batch.schema.names else pa.null()
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return np.full(len(batch), np.nan)
    values: np.ndarray = pc.fill_null(batch[name].cast(pa.float64(), safe=False), float("nan")).to_numpy()
    return values


def _array(column: pa.Array) -> np.ndarray:
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    return values
