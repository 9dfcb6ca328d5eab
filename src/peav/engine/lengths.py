"""How long clips are and how large their files, by a few of them where the manifest does not tell."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from itertools import islice

from peav.data.manifest import Row
from peav.engine.clip import Answer
from peav.engine.cutting import look_at
from peav.engine.partition import read_rows
from peav.engine.segment import Segmenter, known_duration
from peav.utils.storage import WHOLE, FilePart

PROBED = 64  # rows whose length no manifest tells, and as many whose files' sizes are looked at


class Lengths:
    """Of a place's rows. Where the manifest does not tell, some are probed, and the others count as the mean of these.

    Attributes:
        unknown: rows whose manifest does not tell.
        probed: what was found of some of them, by id.
        mean: seconds of these.
        bytes: of a row's files, the mean of a few; None: nobody knows.
    """

    def __init__(self, places: str | Sequence[str], limit: int | None, segmenter: Segmenter) -> None:
        self.unknown = 0
        rows = _sample(self._count_unknown(islice(read_rows(places), limit)))
        found = look_at(rows, Segmenter(segmenter.max_seconds, segmenter.min_seconds))
        self.probed = dict(zip((row.id for row in rows), found, strict=True))
        seconds = [one.value["duration"] for one in self.probed.values() if isinstance(one, Answer)]
        self.mean = sum(seconds) / len(seconds) if seconds else 0.0
        sizes = [size for row in _sample(islice(read_rows(places), limit)) if (size := _bytes(row)) is not None]
        self.bytes = sum(sizes) / len(sizes) if sizes else None

    def _count_unknown(self, rows: Iterator[Row]) -> Iterator[Row]:
        for row in rows:
            if known_duration(row) is None:
                self.unknown += 1
                yield row

    def look(self, rows: list[Row], segmenter: Segmenter) -> Iterator[Answer | Exception]:  # noqa: ARG002
        """As `cutting.look_at`, without looking."""
        for row in rows:
            seconds = known_duration(row)
            there = Answer({"duration": self.mean if seconds is None else seconds, "cuts": []})
            yield self.probed.get(row.id, there)


def _sample(rows: Iterator[Row]) -> list[Row]:
    """The first by the hash of their ids."""
    return heapq.nsmallest(PROBED, rows, key=lambda row: hashlib.sha256(row.id.encode(errors="surrogatepass")).digest())


def _bytes(row: Row) -> int | None:
    """Of a row's files; None where that takes more than a look."""
    places = {place for place in (row.audio_path, row.video_path) if place is not None}
    if any(isinstance(place, FilePart) and place.size == WHOLE for place in places):
        return None
    try:
        return sum(place.size if isinstance(place, FilePart) else place.stat().st_size for place in places)
    except OSError:
        return None
