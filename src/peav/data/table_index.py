"""What a table of rows is chosen by: groups of rows that are alike, and the numbers of the rows of each, 4 bytes a row.

    order.u32     row numbers, group by group, in the manifest's order within each

Rows are alike that have the same split, source and fold, lie between the same `EDGES` in length, and have the same of
sound, pictures and a transcript. Everything is written as rows come; memory does not grow with their number.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from peav.data.manifest import Row
from peav.errors import ManifestError
from peav.utils.atomic import sync

EDGES = (0.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)  # seconds
NAMES = 1024  # of sources, and of licenses, that are told apart
GROUPS = 2**20
ORDER = "order.u32"
CHUNK = 2**22  # rows at a time
FACTS = pa.schema(
    {
        "id": pa.string(),
        "split": pa.string(),
        "source": pa.string(),
        "fold": pa.int64(),
        "seconds": pa.float64(),
        "audio_path": pa.bool_(),
        "video_path": pa.bool_(),
        "transcript": pa.bool_(),
        "license": pa.string(),
    }
)
"""What the index is told of each row; `seconds` is null where the manifest does not say how long a clip lasts."""

Kind = tuple[str | None, str | None, int | None, float | None, bool, bool, bool]
"""What rows of a group have in common: the first seven fields of it."""


@dataclass(frozen=True)
class Group:
    """Rows that are alike, by the names that a `Row` has for it; `audio_path`, `video_path` and `transcript` say
    whether there is one.

    Attributes:
        least: of `EDGES`, the last that its clips are not shorter than; None where their length is not said.
        start, stop: its places in the order of all rows.
        licenses: how many rows have each.
    """

    split: str | None
    source: str | None
    fold: int | None
    least: float | None
    audio_path: bool
    video_path: bool
    transcript: bool
    start: int = 0
    stop: int = 0
    licenses: Mapping[str, int] = field(default_factory=dict)

    @property
    def trains(self) -> bool:
        """As of a row."""
        return self.split in (None, "train")


def length(row: Row) -> float | None:
    """How long a clip lasts in seconds, None where its manifest does not say."""
    end, start = row.extra.get("duration") if row.end is None else row.end, row.start or 0.0
    if not isinstance(end, (int, float)) or isinstance(end, bool) or abs(end) >= 2**63:  # none that float64 can hold
        return None
    return end - start if end >= start else None


def bucket_of(seconds: float | None) -> float | None:
    """Of `EDGES` the last that is not above; None of None."""
    return None if seconds is None else EDGES[bisect_right(EDGES, seconds) - 1]


class IndexWriter(AbstractContextManager["IndexWriter"]):
    """Takes the facts of all rows in their order, then writes the order by groups.

    Args:
        folder: where the table is made; what only this needs is removed from there at the end.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, 0
        self._numbers: dict[Kind, int] = {}  # of groups
        self._licenses: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._names: dict[str, set[str]] = {"source": set(), "license": set()}
        self._groups = open(folder / "groups.i32", "wb")  # noqa: SIM115
        self._ids = open(folder / "ids.i64", "wb")  # noqa: SIM115

    def add(self, facts: pa.RecordBatch) -> None:
        """The next rows, by `FACTS`."""
        self.rows += len(facts)
        if self.rows > 2**32:
            raise ManifestError("more than 4 billion rows; give several sources")
        # Hashes of this process alone, which is enough to find ids that stand twice.
        np.fromiter(map(hash, facts["id"].to_pylist()), np.int64, len(facts)).tofile(self._ids)
        seconds = facts["seconds"].to_numpy(zero_copy_only=False)  # (N,), NaN for null
        bucket = np.where(np.isnan(seconds), -1, np.searchsorted(EDGES, np.nan_to_num(seconds), side="right") - 1)
        columns = [_coded(facts[name]) for name in ("split", "source", "fold")]
        columns += [(bucket + 1, [None, *EDGES])]
        columns += [_coded(facts[name]) for name in ("audio_path", "video_path", "transcript", "license")]
        kinds, which = _kinds(columns)
        numbers = np.empty(len(kinds), np.int32)
        for at, (kind, count) in enumerate(zip(kinds, np.bincount(which, minlength=len(kinds)).tolist(), strict=True)):
            split, source, fold, least, audio, video, says, license = kind
            key = (split, self._known("source", source, None), fold, least, audio, video, says)
            numbers[at] = self._numbers.setdefault(key, len(self._numbers))
            name = "unknown" if license is None else self._known("license", license, "others")
            self._licenses[int(numbers[at])][str(name)] += count
        numbers[which].tofile(self._groups)
        if len(self._numbers) > GROUPS:
            raise ManifestError(
                f"rows of more than {GROUPS} different splits, folds, sources and lengths; `split` and `fold` say what "
                "is held out: give what is a row's own another name"
            )

    def _known(self, kind: str, name: str | None, other: str | None) -> str | None:
        """A name, or `other` for those that come after so many that they cannot be kept apart."""
        known = self._names[kind]
        if name is not None and len(known) < NAMES:
            known.add(name)
        return name if name is None or name in known else other

    def __exit__(self, *error: object) -> None:
        self._groups.close()
        self._ids.close()

    def finish(self) -> list[Group]:
        """Write the order, when all is closed; the groups that rows were found to be in."""
        path = self.folder / "groups.i32"
        groups = np.memmap(path, np.int32, "r") if self.rows else np.empty(0, np.int32)
        counts = sum((np.bincount(part, minlength=len(self._numbers)) for _, part in _chunks(groups)), start=0)
        ends = np.cumsum(counts, dtype=np.int64) if self.rows else np.empty(0, np.int64)
        starts = ends - counts
        found = [
            Group(*key, int(starts[number]), int(ends[number]), dict(self._licenses[number]))
            for key, number in self._numbers.items()
        ]
        if self.rows:
            order = np.memmap(self.folder / ORDER, np.uint32, "w+", shape=(self.rows,))
            _sort(groups, starts, order)
            order.flush()
            sync(self.folder / ORDER)
        path.unlink()
        return found

    def repeated(self) -> Iterator[int]:
        """The numbers of all rows whose ids may stand twice, in their order; to be asked after `finish`."""
        path = self.folder / "ids.i64"
        if not self.rows:
            return
        ids = np.memmap(path, np.int64, "r")
        in_order = np.memmap(
            self.folder / "sorted.i64", np.int64, "w+", shape=(self.rows,)
        )  # on the disk, not in memory
        in_order[:] = ids
        in_order.sort()
        twice = [part[1:][part[1:] == part[:-1]] for _, part in _chunks(in_order, overlap=1)]
        values = np.unique(np.concatenate(twice))
        (self.folder / "sorted.i64").unlink()
        path.unlink()
        if len(values):
            for first, part in _chunks(ids):
                yield from (first + np.flatnonzero(np.isin(part, values))).tolist()


def _coded(column: pa.Array) -> tuple[np.ndarray, list[Any]]:
    """A column as numbers (N,) into a list of its values, null being one."""
    encoded = pc.dictionary_encode(column, null_encoding="encode")
    return encoded.indices.to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()


def _kinds(columns: list[tuple[np.ndarray, list[Any]]]) -> tuple[list[tuple[Any, ...]], np.ndarray]:
    """The different rows of a table of coded columns, and for each row (N,) which of these it is."""
    mixed = np.zeros(len(columns[0][0]), np.int64)
    for codes, values in columns:
        mixed = mixed * len(values) + codes
    _, first, which = np.unique(mixed, return_index=True, return_inverse=True)
    return [tuple(values[codes[at]] for codes, values in columns) for at in first.tolist()], which.reshape(-1)


def _chunks(values: np.ndarray, overlap: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """Parts of an array with their first places; each begins with so many of the last values of the one before."""
    for first in range(0, len(values), CHUNK):
        start = max(first - overlap, 0)
        yield start, np.asarray(values[start : first + CHUNK])


def _sort(groups: np.ndarray, starts: np.ndarray, order: np.ndarray) -> None:
    """Write the numbers of the rows of each group from `starts` on, in their order: a counting sort in chunks."""
    free = starts.copy()
    for first, part in _chunks(groups):
        rows = part.argsort(kind="stable")
        ordered = part[rows]
        counts = np.bincount(ordered, minlength=len(free))
        rank = np.arange(len(ordered)) - np.repeat(np.cumsum(counts) - counts, counts)  # within the group
        order[free[ordered] + rank] = first + rows
        free += counts
