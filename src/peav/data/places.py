"""Where a source's clips are: a path that says what it is, or a class that makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from peav.data.manifest import Row, read_manifest, unique
from peav.data.recordings import manifest_in, read_recordings
from peav.data.records import SUFFIXES, read_records
from peav.data.tabulate import count_rows, find_table, is_large, make_table
from peav.data.webdataset import read_webdataset
from peav.errors import ManifestError
from peav.features.prepared import SPEC_FILE, read_prepared
from peav.utils.storage import is_remote, matching

SHARDS = "shards"  # the folder of manifests in one that `peav caption` made
# Short names of the classes that a recipe may give as a source's place; any other is path/to/file.py:Class.
PLACES = {
    "world": "peav.synth.world.place:World",
    "world_tars": "peav.synth.world.place:WorldTars",
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

    def rows(self, context: PlaceContext) -> Sequence[Row]:
        """The rows of all splits."""
        raise NotImplementedError


def read_clips(place: str, index: str | None = None) -> list[Row]:
    """The clips of manifests, of WebDataset tars, of a folder with a manifest or of `peav caption`; all splits.

    Args:
        place: a path or an address, or a pattern for several; folders are on disk.
        index: as in `read_webdataset`.

    Raises:
        ManifestError: it is none of these, or cannot be read.
    """
    if place.endswith(".tar"):
        return read_webdataset(place, index)
    if not place.endswith(SUFFIXES) and not Path(place).is_dir():
        kinds = f"a manifest ({', '.join(SUFFIXES)}), tars (x.tar, x-*.tar) or a folder of recordings"
        raise ManifestError(f"{place}: no clips there; give {kinds}")
    if manifests := _manifests(place):
        return unique((path, row) for path in manifests for row in read_manifest(path))  # in all of them, too
    return read_recordings(Path(place))


def _manifests(place: str) -> list[str]:
    """The manifests that a path or a pattern names, or those in a folder; none of a folder of recordings, whose rows
    say their `kind`.
    """
    if place.endswith(SUFFIXES):
        return matching(place)
    if shards := sorted(map(str, Path(place).glob(f"{SHARDS}/*.parquet"))):
        return shards
    found = manifest_in(Path(place))
    plain = found is not None and all("kind" not in record for _, record in islice(read_records(found), 1))
    return [str(found)] if plain else []


def read_place(place: str, context: PlaceContext) -> Sequence[Row]:
    """The rows of a path or an address, of all splits; of large manifests, as a `RowTable`.

    It is what `read_clips` takes (a manifest, tars, a folder of recordings), or a folder or an address that `peav
    prepare` made.

    Raises:
        ManifestError, PreparedError: it is none of these, or cannot be read.
    """
    if is_prepared(place):
        return read_prepared(place)
    manifests = [] if is_remote(place) or place.endswith(".tar") else _manifests(place)
    if not is_large(manifests):
        return read_clips(place, f"{context.cache}/webdataset")
    if (found := find_table(manifests, context.cache)) is not None:
        return found
    context.stage("manifest", count_rows(manifests))
    return make_table(manifests, context.cache, context.advance)


def is_prepared(place: str) -> bool:
    """Whether a place holds what `peav prepare` made; of addresses no other folders can be read."""
    return (is_remote(place) and not place.endswith((".tar", *SUFFIXES))) or (Path(place) / SPEC_FILE).is_file()
