"""What reading and decoding a recipe's clips costs, measured on some of them where they are there."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from glob import glob
from itertools import islice
from pathlib import Path
from statistics import mean

from peav.data.manifest import Row, parse_row
from peav.data.places import PlaceContext, is_prepared, read_place
from peav.data.records import SUFFIXES, read_records
from peav.data.tabulate import count_rows
from peav.errors import MediaError, RecipeError
from peav.features.decode import Cut, decode
from peav.train.recipe import Recipe
from peav.train.skeleton import Clip
from peav.utils.remote import info_of
from peav.utils.storage import WHOLE, FilePart, is_remote

SAMPLE = 8  # clips of a source that are decoded


@dataclass(frozen=True)
class Media:
    """What a clip of a recipe costs to read and decode. None: not known.

    Attributes:
        decode_seconds: of one processor core.
        bytes: of its file that are read.
        clips: in all sources together.
        measured: how many clips the first two are of; 0 where they were stated.
        missing: the sources that are not there yet.
    """

    decode_seconds: float | None = None
    bytes: float | None = None
    clips: int | None = None
    measured: int = 0
    missing: tuple[str, ...] = ()


def media_of(recipe: Recipe, clip: Clip, stated: Media) -> Media:
    """`stated`, and what it leaves open measured: some clips of each source are decoded, one after the other.

    Sources count by their shares of a batch. Clips that a class makes, and those at addresses, are not there.

    Raises:
        RecipeError: none of a source's clips can be decoded. ManifestError: a source cannot be read.
    """
    places = [source.place for source in recipe.data.sources]
    missing = tuple(str(source) for source in recipe.data.sources if not _is_there(source.place))
    there = [place for place in places if isinstance(place, str) and _is_there(place)]
    if missing or any(map(is_prepared, there)):
        return Media(stated.decode_seconds, stated.bytes, stated.clips, 0, missing)
    found = [_some_rows(place, recipe) for place in there]
    counts = [count for _, count in found]
    clips = sum(counts) if stated.clips is None else stated.clips
    if stated.decode_seconds is not None and stated.bytes is not None:
        return Media(stated.decode_seconds, stated.bytes, clips, 0)
    cut = Cut(clip.frames, clip.image_size, clip.seconds)
    temperature = recipe.data.temperature
    measured = [_decoded(rows, cut, place) for place, (rows, _) in zip(there, found, strict=True)]
    shares = [
        source.weight * (1.0 if temperature is None else count ** (1 / temperature))
        for source, count in zip(recipe.data.sources, counts, strict=True)
    ]

    def over_sources(values: Iterable[float]) -> float:
        return sum(share * value for share, value in zip(shares, values, strict=True)) / sum(shares)

    seconds = over_sources(seconds for seconds, _, _ in measured)
    size = over_sources(size for _, size, _ in measured)
    return Media(
        seconds if stated.decode_seconds is None else stated.decode_seconds,
        size if stated.bytes is None else stated.bytes,
        clips,
        sum(number for _, _, number in measured),
    )


def _is_there(place: object) -> bool:
    return isinstance(place, str) and not is_remote(place) and (Path(place).exists() or bool(glob(place)))


def _some_rows(place: str, recipe: Recipe) -> tuple[list[Row], int]:
    """The first clips of a place that train, and how many clips it has; of one manifest no more is read than that."""
    path = Path(place)
    if place.endswith(SUFFIXES) and path.is_file():
        parsed = (parse_row(record, path.parent, where) for where, record in read_records(path))
        return list(islice((row for row in parsed if row.trains), SAMPLE)), count_rows([place]) - (
            path.suffix in (".csv", ".tsv")
        )
    rows = read_place(place, PlaceContext(recipe.data.cache))
    return list(islice((row for row in rows if row.trains), SAMPLE)), len(rows)


def _decoded(rows: Sequence[Row], cut: Cut, place: str) -> tuple[float, float, int]:
    """Mean processor seconds and bytes of a clip, and of how many that is."""
    seconds, sizes = [], []
    reason = "it has none that trains"
    for number, row in enumerate([*rows[:1], *rows]):  # the first twice: once to load what decodes
        began = time.process_time()
        try:
            decode(row.audio_path, row.video_path, row.start, row.end, cut)
        except MediaError as error:
            reason = str(error)
            continue
        if number:
            seconds.append(time.process_time() - began)
            sizes.append(_bytes(row))
    if not seconds:
        raise RecipeError(f"{place}: no clip can be decoded: {reason}")
    return mean(seconds), mean(sizes), len(seconds)


def _bytes(row: Row) -> int:
    """Of all files of a clip; of a file that it is cut from, all of it."""
    places = dict.fromkeys(place for place in (row.audio_path, row.video_path) if place is not None)
    return sum(map(_size, places))


def _size(place: Path | FilePart) -> int:
    if not isinstance(place, FilePart):
        return place.stat().st_size
    return int(info_of(place.path)["size"]) if place.size == WHOLE else place.size
