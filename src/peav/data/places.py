"""Where a source's clips are: a path that says what it is, or a class that makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from peav.data.manifest import Row, read_manifest
from peav.data.recordings import read_recordings
from peav.data.records import SUFFIXES
from peav.data.webdataset import read_webdataset
from peav.features.prepared import SPEC_FILE, read_prepared
from peav.utils.storage import is_remote

# Short names of the classes that a recipe may give as a source's place; any other is path/to/file.py:Class.
PLACES = {
    "world": "peav.synth.world.place:World",
    "mixtures": "peav.synth.mix.mixtures:Mixtures",
}


@dataclass(frozen=True)
class PlaceContext:
    """What reading a place may use: a folder for what it keeps, `workers` processes, and whom it tells how it goes."""

    cache: str = "."
    workers: int = 1
    stage: Callable[[str, int], None] = field(default=lambda name, total: None)
    advance: Callable[[int], None] = field(default=lambda done: None)


class Place:
    """Clips that are made where they are not there yet. Its options are what `__init__` takes."""

    def rows(self, context: PlaceContext) -> list[Row]:
        """The rows of all splits."""
        raise NotImplementedError


def read_place(place: str, context: PlaceContext) -> list[Row]:
    """The rows of a path or an address, of all splits.

    It is a manifest (`.jsonl`, `.csv`, `.tsv`, `.parquet`), WebDataset tars (`clips-{0000..0007}.tar`), a folder or an
    address that `peav prepare` made, or a folder of labeled recordings.

    Raises:
        ManifestError, PreparedError: it is none of these, or cannot be read.
    """
    if place.endswith(".tar"):
        return read_webdataset(place, f"{context.cache}/webdataset")
    if place.endswith(SUFFIXES):
        return read_manifest(place)
    return read_prepared(place) if is_prepared(place) else read_recordings(place)


def is_prepared(place: str) -> bool:
    """Whether a place holds what `peav prepare` made; of addresses no other folders can be read."""
    return (is_remote(place) and not place.endswith((".tar", *SUFFIXES))) or (Path(place) / SPEC_FILE).is_file()
