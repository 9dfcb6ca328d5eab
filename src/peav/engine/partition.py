"""A manifest cut into partitions of N rows: the unit of work, of placement and of commit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from peav.data.manifest import Row, parse_row
from peav.data.places import SHARDS, read_clips
from peav.data.recordings import manifest_in
from peav.data.records import SUFFIXES, read_records
from peav.errors import ManifestError
from peav.features.keys import media_version
from peav.media.find import VIDEO_EXTENSIONS, find_media
from peav.utils.storage import parent


@dataclass(frozen=True)
class Partition:
    """Some rows of a manifest in its order; `key` is the hash of what they say and of their files' versions."""

    number: int
    rows: tuple[Row, ...]
    key: str

    @property
    def name(self) -> str:
        """Of its files in a run."""
        return f"{self.number:05d}"

    def without_rows(self) -> Partition:
        """What tells it from others, without what it holds."""
        return replace(self, rows=())


def partitions(places: str | Sequence[str], size: int, limit: int | None = None) -> Iterator[Partition]:
    """The first `limit` rows of a place, or of several, as partitions of `size` rows, the last one perhaps smaller.

    They are made as they are asked for: of a manifest no more is in memory than its text, of a Parquet one no more than
    some rows. What only grew at its end has the partitions it had, but for the last.

    Raises:
        ManifestError: a place is none, a row cannot be read, or an id stands twice.
    """
    rows = islice(read_rows(places), limit)
    number = 0
    while chunk := tuple(islice(rows, size)):
        yield Partition(number, chunk, _key(chunk))
        number += 1


def read_rows(places: str | Sequence[str]) -> Iterator[Row]:
    """The rows of a manifest one by one, or of what else `read_clips` takes, or a row for each media file of a folder;
    of several places one after the other.

    Raises ManifestError as `partitions`.
    """
    seen: set[bytes] = set()
    for place in listed(places):
        for row in _rows(place):
            mark = hashlib.blake2b(row.id.encode(errors="surrogatepass"), digest_size=8).digest()
            if mark in seen:
                fix = "give each clip its own id; of two folders of media, the folder above both"
                raise ManifestError(f"{place}: id {row.id!r} stands twice; {fix}")
            seen.add(mark)
            yield row


def listed(places: str | Sequence[str]) -> list[str]:
    """One place as a list of one."""
    return [places] if isinstance(places, str) else list(places)


def _rows(place: str) -> Iterator[Row]:
    path = Path(place)
    if place.endswith(SUFFIXES):
        return (parse_row(record, parent(place), where) for where, record in read_records(place))
    if path.is_dir() and manifest_in(path) is None and not (path / SHARDS).is_dir():
        return _files(path)
    return iter(read_clips(place))


def _files(folder: Path) -> Iterator[Row]:
    for path in find_media([folder]):
        try:
            path.as_posix().encode()
        except UnicodeEncodeError as error:
            raise ManifestError(f"{path.as_posix()!r}: its name is no UTF-8; rename it") from error
        video = path if path.suffix.lower() in VIDEO_EXTENSIONS else None
        yield Row(
            path.relative_to(folder).as_posix(), audio_path=path.absolute(), video_path=video and video.absolute()
        )


def _key(rows: tuple[Row, ...]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row!r} {media_version(row)}\n".encode(errors="surrogatepass"))
    return digest.hexdigest()[:32]
