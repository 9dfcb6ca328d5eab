"""What a recipe does to the clips of a source: which of them train, and what they become each time they are drawn.

A transform is a subclass of `SourceTransform` in a file of its own, with a line in `TRANSFORMS`; outside the package a
recipe names it as `path/to/file.py:Class`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from peav.data.manifest import Row, by_fold, check_fold
from peav.data.table import RowTable, select
from peav.data.table_index import EDGES, Group, bucket_of, length
from peav.features.extract import ClipFeatures
from peav.features.store import FeatureCache

TRANSFORMS = {
    "test_fold": "peav.data.transforms:TestFold",
    "train_only": "peav.data.transforms:TrainOnly",
    "transcripts": "peav.data.transforms:Transcripts",
    "where": "peav.data.transforms:Where",
    "remix": "peav.lab.remix:Remix",
    "synthetic_captions": "peav.lab.captioner:SyntheticCaptions",
    "without_mixed": "peav.lab.remix:WithoutMixed",
    "word_swap": "peav.lab.splice:WordSwap",
}


@dataclass(frozen=True)
class SourceContext:
    """What a transform may use when a run begins: the features, the longest that a clip may be (seconds), and a file
    for what it cannot use.
    """

    cache: FeatureCache
    max_seconds: float
    failures: Path


class SourceTransform:
    """Changes the clips of one source; the base class changes nothing.

    Its options are what `__init__` takes, in most a dataclass's fields. `copies` says what it does to a clip that is
    drawn: None: nothing; 0: it is changed; N: N changed copies stand beside it in the batch, on top of
    `optim.batch_size`. One transform of a source may have `copies`. Rows of a large manifest are all read into memory
    for it, unless it is a `Choice`.
    """

    copies: int | None = None
    fits: ClassVar[str] = ""
    """What clips must have to train, for the message where none has it."""
    needs_codec: ClassVar[bool] = False
    """Whether `draw` runs the codec, which must then be whole in each process."""

    def all_rows(self, rows: list[Row]) -> Sequence[Row]:
        """The rows of the source, those held out too, as they shall be read."""
        return rows

    def train_rows(self, rows: list[Row], max_seconds: float) -> list[Row]:
        """The rows that train, of those that could."""
        return rows

    def start(self, rows: list[Row], context: SourceContext) -> list[Row]:
        """Get ready to draw from `rows`, whose features are made; the rows that may be drawn."""
        return rows

    def draw(self, row: Row, rng: np.random.Generator, load: bool) -> tuple[Row, ClipFeatures | None]:
        """What a drawn clip becomes, and its features.

        Args:
            load: whether the features are wanted. Without (another process computes this clip) the row alone is, and
                must have the captions that it has with them: they are drawn for the whole batch by one generator.
        """
        raise NotImplementedError


class Choice(SourceTransform):
    """Chooses rows or their splits by `all_rows`, and reads none of a `RowTable` for it (see `data.table.select`)."""

    def all_rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """What it makes of the rows, of a list another list and of a table another table."""
        raise NotImplementedError


@dataclass
class Transcripts(Choice):
    """Clips with speech train, nothing is held out: for more speech from a source that is there already."""

    fits = "a transcript"

    def all_rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows with a transcript that train."""
        return select(rows, lambda row: row.trains and bool(row.transcript))


@dataclass
class TrainOnly(Choice):
    """Nothing of the source is held out for the run's own figures."""

    def all_rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows of split `train`, and those without a split."""
        return select(rows, lambda row: row.trains)


@dataclass
class TestFold(Choice):
    """One `fold` of the rows is the test split, whatever split they have; all others train."""

    fold: int

    def all_rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows with their new splits. Raises ManifestError where no row has the fold."""
        if not isinstance(rows, RowTable):
            return by_fold(rows, self.fold, "the source")
        check_fold({group.fold for group in rows.groups}, self.fold, "the source")
        return rows.changed(lambda group: replace(group, split="test" if group.fold == self.fold else "train"))


@dataclass
class Where(Choice):
    """The clips of one `source`, of some length, or both, so that they can have a weight of their own.

    Clips last from `at_least` to below `below` seconds, by what the manifest says (`start` and `end`, or `duration`);
    where it says nothing they are left out. Both are of `table_index.EDGES`, by which large manifests are sorted.
    """

    source: str | None = None
    at_least: float = 0.0
    below: float | None = None

    fits = "the source and the length that `where` asks for"

    def __post_init__(self) -> None:
        for name in ("at_least", "below"):
            if getattr(self, name) not in (None, *EDGES):
                edges = ", ".join(f"{edge:g}" for edge in EDGES)
                raise ValueError(f"where: {name} is one of {edges} seconds, not {getattr(self, name):g}")

    def all_rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows that fit, of all splits."""
        return select(rows, self._fits)

    def _fits(self, row: Row | Group) -> bool:
        if self.source is not None and row.source != self.source:
            return False
        least = row.least if isinstance(row, Group) else bucket_of(length(row))
        if least is None:
            return self.at_least == 0 and self.below is None
        return self.at_least <= least and (self.below is None or least < self.below)
