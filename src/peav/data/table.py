"""A manifest of any number of rows, read from the disk a row at a time: what `data.tabulate` made of it.

    rows-00000.arrow   the rows, memory-mapped: a manifest's own columns, or a column of its records as JSON
    order.u32          row numbers by group, memory-mapped (see `data.table_index`)
    table.json         the groups, and where the rows came from; written last

Processes of one machine share the mapped pages, which the system gives back when memory is wanted.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from peav.data.manifest import Row, parse_row
from peav.data.permutation import Permutation
from peav.data.table_index import ORDER, Group

ABOUT = "table.json"
RECORD, LINE = "record", "line"  # columns of a table of JSON


@dataclass(frozen=True)
class Piece:
    """Rows that lie together: number `batch` of an Arrow file, from `row` on (counted from 0) of a manifest."""

    file: str
    batch: int
    manifest: str
    row: int
    rows: int
    json: bool


class RowStore:
    """The rows of a table by their numbers in the manifest. Safe from several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        self.digest: str = about["digest"]
        self.groups = [Group(**group) for group in about["groups"]]
        self.pieces = [Piece(**piece) for piece in about["pieces"]]
        self.ends = list(accumulate(piece.rows for piece in self.pieces))
        self.order = np.memmap(folder / ORDER, np.uint32, "r")
        self._files: dict[str, pa.ipc.RecordBatchFileReader] = {}
        self._columns: dict[int, dict[str, pa.Array]] = {}

    def row(self, number: int) -> Row:
        """The row of this number in the manifest."""
        piece, columns, at = self._find(number)
        record = {name: column[at].as_py() for name, column in columns.items()}
        if piece.json:
            record = json.loads(record[RECORD])
        return parse_row(record, Path(piece.manifest).parent, self.where(number))

    def where(self, number: int) -> str:
        """The place of a row, FILE:LINE; of Parquet and Arrow, FILE:ROW."""
        piece, columns, at = self._find(number)
        return f"{piece.manifest}:{columns[LINE][at].as_py() if piece.json else piece.row + at + 1}"

    def _find(self, number: int) -> tuple[Piece, dict[str, pa.Array], int]:
        which = bisect_right(self.ends, number)
        piece = self.pieces[which]
        if which not in self._columns:
            if piece.file not in self._files:
                self._files[piece.file] = pa.ipc.open_file(pa.memory_map(str(self.folder / piece.file)))
            batch = self._files[piece.file].get_batch(piece.batch)
            self._columns[which] = dict(zip(batch.schema.names, batch.columns, strict=True))
        return piece, self._columns[which], number - (self.ends[which] - piece.rows)


_store = lru_cache(maxsize=None)(RowStore)


class RowTable(Sequence[Row]):
    """Rows of some groups of a table, group by group; each is read when it is asked for.

    What a group says holds for its rows, so that a table can give other splits than its manifest, or sound alone.

    Args:
        folder: of the table.
        groups: those whose rows are meant; by default all.
    """

    def __init__(self, folder: Path, groups: Sequence[Group] | None = None) -> None:
        self.folder, self.rows = folder, _store(folder)
        self.groups = tuple(self.rows.groups if groups is None else groups)
        self._ends = list(accumulate(group.stop - group.start for group in self.groups))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        place = range(len(self))[index]  # negative ones, and IndexError
        which = bisect_right(self._ends, place)
        group = self.groups[which]
        row = self.rows.row(int(self.rows.order[group.stop - (self._ends[which] - place)]))
        return replace(row, split=group.split, video_path=row.video_path if group.video_path else None)

    def __iter__(self) -> Iterator[Row]:
        return (self[place] for place in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return RowTable, (self.folder, self.groups)  # another process maps the files itself

    @property
    def digest(self) -> str:
        """Of what all rows say, but for where their files lie, and of which rows these are."""
        return f"{self.rows.digest} {self.groups}"

    def where(self, chosen: Callable[[Group], bool]) -> RowTable:
        """The rows of the groups of which `chosen` is true."""
        return RowTable(self.folder, list(filter(chosen, self.groups)))

    def changed(self, change: Callable[[Group], Group]) -> RowTable:
        """The rows with another `split`, or without pictures (`video_path` False), by their groups."""
        return RowTable(self.folder, list(map(change, self.groups)))

    def some(self, count: int) -> Iterator[Row]:
        """At most `count` rows, the same ones each time, evenly from all groups; in the table's order."""
        if count >= len(self):
            return iter(self)
        places = sorted(Permutation(len(self), (0,))(np.arange(count)).tolist())
        return (self[place] for place in places)

    def licenses(self) -> Counter[str]:
        """How many rows have each license, `unknown` for none."""
        return sum((Counter(group.licenses) for group in self.groups), start=Counter())


class JoinedRows(Sequence[Row]):
    """The rows of several sources, one after the other, without a list of them all."""

    def __init__(self, parts: Sequence[Sequence[Row]]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        for part in self.parts:
            if place < len(part):
                return part[place]
            place -= len(part)
        raise AssertionError

    def __iter__(self) -> Iterator[Row]:
        return chain.from_iterable(self.parts)


def select(rows: Sequence[Row], chosen: Callable[[Any], bool]) -> Sequence[Row]:
    """The rows of which `chosen` is true; of a table it is asked of the groups, which have the names of rows for what
    they say (`trains`, `split`, `source`, `transcript`, ...).
    """
    return rows.where(chosen) if isinstance(rows, RowTable) else [row for row in rows if chosen(row)]
