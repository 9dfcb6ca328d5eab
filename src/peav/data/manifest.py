"""Manifests: one clip a row, as JSON lines, CSV, Parquet or Arrow; paths are relative to the manifest's folder."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from peav.data.records import read_records
from peav.errors import ManifestError
from peav.types import MODALITIES, Event, Word, modalities
from peav.utils.atomic import atomic_write
from peav.utils.checks import nested, seconds, shown, span, string
from peav.utils.renamed import renamed
from peav.utils.storage import WHOLE, FilePart, is_remote, join, parent

DEPTH = 32  # of lists and objects in each other: whatever copies or writes a row goes as deep

OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "memory"})
"""What the address of a file in a manifest may begin with."""


@dataclass(frozen=True)
class Row:
    """One clip: where its media lie, what is said of it, and every extra column as it was read.

    `audio_path` and `video_path` are absolute; both point to the same file where a manifest gives `path`. They are
    parts of an archive where the clip comes out of one, and of themselves where they lie in object storage.
    `start` and `end` are seconds within the file, None for the whole of it. `plain` are texts that the manifest gives
    without a kind; `captions` then has them under every kind that the paths allow, see `with_streams`. `synthetic` are
    those of the `captions` that a machine wrote: a column of its own in a manifest, in `captions` after the others.
    """

    id: str
    audio_path: Path | FilePart | None = None
    video_path: Path | FilePart | None = None
    start: float | None = None
    end: float | None = None
    captions: Mapping[str, list[str]] = field(default_factory=dict)
    transcript: str | None = None
    words: tuple[Word, ...] = ()
    events: tuple[Event, ...] = ()
    split: str | None = None
    source: str | None = None
    license: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    plain: tuple[str, ...] = ()
    synthetic: Mapping[str, list[str]] = field(default_factory=dict)

    def with_streams(self, audio: bool, video: bool) -> Row:
        """The row with its plain texts under the kinds of the streams that its files turned out to have."""
        if not self.plain:
            return self
        return replace(self, captions=_joined(_everywhere(self.plain, audio, video), self.synthetic))

    @property
    def trains(self) -> bool:
        """Whether it is of split `train`, or of none."""
        return self.split in (None, "train")

    def by_people(self) -> Row:
        """The row without the synthetic captions of kinds of which it has others: what it is to be tested on."""
        made = {kind: texts for kind, texts in self.synthetic.items() if set(self.captions.get(kind, ())) <= set(texts)}
        real = {
            kind: [text for text in texts if kind in made or text not in self.synthetic.get(kind, ())]
            for kind, texts in self.captions.items()
        }
        return replace(self, captions=real, synthetic=made)


def read_manifest(path: str | Path, split: str | None = None) -> list[Row]:
    """Read a `.jsonl`, `.csv`, `.tsv`, `.parquet` or `.arrow` manifest, on disk or at an address, or one split of it.

    Raises:
        ManifestError: the file is missing, a line cannot be read, a row lacks a path or holds something of another
            type, or ids (the paths of rows without) repeat.
    """
    rows = unique((where, parse_row(record, parent(path), where)) for where, record in read_records(path))
    return [row for row in rows if split is None or row.split == split]


def unique(rows: Iterable[tuple[str, Row]]) -> list[Row]:
    """The rows, each given with its place in a manifest.

    Raises:
        ManifestError: an id stands twice; it names both places.
    """
    found: list[Row] = []
    places: dict[str, str] = {}
    for where, row in rows:
        if row.id in places:
            raise twice(row.id, where, places[row.id])
        places[row.id] = where
        found.append(row)
    return found


def twice(identity: str, where: str, first: str) -> ManifestError:
    """What to say of an id that stands in two places."""
    return ManifestError(
        f"{where}: id {identity!r} stands twice, first at {first}; give each clip its own id (several texts of one "
        "clip are one row with a list of them)"
    )


def by_fold(rows: Sequence[Row], test_fold: int, where: str) -> list[Row]:
    """The rows with those of one `fold` as split `test` and the others as `train`, whatever split they have.

    Raises:
        ManifestError: a row without a fold, or none of this one.
    """
    check_fold({row.extra.get("fold") for row in rows}, test_fold, where)
    return [replace(row, split="test" if row.extra["fold"] == test_fold else "train") for row in rows]


def check_fold(folds: Collection[int | None], test_fold: int, where: str) -> None:
    """Raises ManifestError unless every row has a fold, and some this one; `folds` are all that there are."""
    if test_fold not in folds or None in folds:
        known = ", ".join(str(fold) for fold in sorted(fold for fold in folds if isinstance(fold, int)))
        reason = "some rows have no `fold`" if None in folds else f"there are folds {known}"
        raise ManifestError(f"{where}: fold {test_fold} cannot be held out: {reason}")


def write_manifest(path: str | Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write plain records, atomically, as JSON lines or Parquet by the file's suffix. Raises ManifestError for CSV."""
    path = Path(path)
    if path.suffix in (".csv", ".tsv", ".arrow"):
        reason = "is only read" if path.suffix == ".arrow" else "has no lists and objects"
        raise ManifestError(f"{path}: {path.suffix[1:].upper()} {reason}; write a .jsonl or .parquet manifest")
    with atomic_write(path) as temporary:
        if path.suffix == ".parquet":
            rows = [dict(record) for record in records]
            columns = dict.fromkeys(name for row in rows for name in row)  # pyarrow would take those of the first row
            pq.write_table(pa.Table.from_pylist([dict.fromkeys(columns) | row for row in rows]), temporary)
        else:
            with open(temporary, "w", encoding="utf-8") as out:
                out.writelines(json.dumps(dict(record), ensure_ascii=False) + "\n" for record in records)


def parse_row(record: Mapping[str, Any], folder: Path | str, where: str) -> Row:
    """A manifest's record as a row; its paths are addresses, or relative to `folder`, which may be one.

    Raises ManifestError that begins `where`.
    """
    try:
        return _row(dict(record), folder)
    except ValueError as error:
        raise ManifestError(f"{where}: {error}") from error


def _row(values: dict[str, Any], folder: Path | str) -> Row:
    """Takes from `values` what a row has fields for; the rest passes through."""
    if nested(values, DEPTH):
        raise ValueError(f"lists and objects in each other, more than {DEPTH} deep; write it flatter")
    paths = {name: _path(values.pop(name, None), name) for name in ("path", "audio_path", "video_path")}
    audio, video = paths["audio_path"] or paths["path"], paths["video_path"] or paths["path"]
    if audio is None and video is None:
        raise ValueError("a row needs `path`, `audio_path` or `video_path`")
    identity = values.pop("id", None)
    identity = str(audio or video) if identity is None else identity
    if not isinstance(identity, str) or not identity:
        raise ValueError(f"an `id` is a string of the row's own, not {shown(identity)}")
    license, licence = values.pop("license", None), values.pop("licence", None)  # British manifests are read too
    texts = {name: values.pop(name, None) for name in ("transcript", "split", "source")}
    texts["license"] = licence if license is None else license
    known = {name: None if value is None else string(value, name) for name, value in texts.items()}
    start, end = _times(values.pop("start", None), values.pop("end", None))
    captions = _captions(values.pop("captions", None), "captions")
    synthetic = _captions(values.pop("synthetic", None), "synthetic captions")
    plain = () if captions else _plain(values)
    captions = captions or _everywhere(plain, audio is not None, video is not None)
    if "fold" in values:
        values["fold"] = _fold(values["fold"])
    return Row(
        id=string(identity, "id"),
        audio_path=_place(folder, audio) if audio else None,
        video_path=_place(folder, video) if video else None,
        start=start,
        end=end,
        captions=_joined(captions, synthetic),
        synthetic=synthetic,
        plain=plain,
        words=_words(values.pop("words", None)),
        events=_events(values.pop("events", None)),
        extra=values,
        **known,
    )


def _path(value: Any, name: str) -> str | None:
    if value is None or value == "":
        return None
    if "\0" in string(value, name):
        raise ValueError(f"{name} holds a zero byte")
    return str(value)


def _place(folder: Path | str, path: str) -> Path | FilePart:
    """An address of object storage is taken as it is. Any other (http, tcp) is none: a manifest of somebody else's must
    not make this machine knock at others.
    """
    if path.partition("://")[0] in OBJECT_STORES and is_remote(path):
        return FilePart(path, 0, WHOLE, "")
    if isinstance(folder, str):
        return FilePart(join(folder, path), 0, WHOLE, "")
    return folder.absolute() / path


def _times(start: Any, end: Any) -> tuple[float | None, float | None]:
    """Where a clip begins and ends in its file, each None where it is not said."""
    if end is None:
        return None if start is None else seconds(start, "start"), None
    first, last = span(0.0 if start is None else start, end, ("start", "end"))
    if last == first:
        raise ValueError(f"start and end are both {first:g} s; a clip lasts some time")
    return None if start is None else first, last


def _fold(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, float) and value.is_integer():  # as Parquet has them where some rows have none
        return int(value)
    raise ValueError(f"fold must be a whole number, not {shown(value)}")


def _captions(value: Any, name: str) -> dict[str, list[str]]:
    """Lists of captions by kind; a single string counts as a list of one."""
    kinds = ", ".join(MODALITIES)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{name} go by kind ({kinds}), not {shown(value)}")
    if unknown := sorted(shown(kind) for kind in value if kind not in MODALITIES):
        raise ValueError(f"{name} go by kind ({kinds}), not {', '.join(unknown)}")
    captions = {kind: _strings(texts, f"{name} must be strings") for kind, texts in value.items()}
    return {kind: texts for kind, texts in captions.items() if texts}


def _strings(value: Any, must: str) -> list[str]:
    """One text or a list of them; None is no text."""
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{must}, not {shown(value)}")
    return [string(text, "a text") for text in texts]


def _joined(captions: Mapping[str, list[str]], more: Mapping[str, list[str]]) -> dict[str, list[str]]:
    every = {kind: [*captions.get(kind, ()), *more.get(kind, ())] for kind in MODALITIES}
    return {kind: texts for kind, texts in every.items() if texts}


def _plain(values: Mapping[str, Any]) -> tuple[str, ...]:
    """A row's `text` or else `caption`, one or a list."""
    value = values.get("text")
    value = values.get("caption") if value is None or value == "" else value
    return tuple(text for text in _strings(value, "text must be a string or a list of strings") if text)


def _everywhere(texts: Iterable[str], audio: bool, video: bool) -> dict[str, list[str]]:
    """The same texts under every kind of caption that fits the streams."""
    return {kind: list(texts) for kind in modalities(audio, video) if texts}


def _words(value: Any) -> tuple[Word, ...]:
    """A row's `words`, [{word, start, end}, ...]."""
    words = []
    for one in _objects(value, "words", "a word needs word, start and end (seconds)", ("word", "start", "end")):
        text = string(one["word"], "a word")
        start, end = span(one["start"], one["end"], (f"start of {shown(text)}", f"end of {shown(text)}"))
        words.append(Word(text.lower(), start, end))
    return tuple(words)


def _events(value: Any) -> tuple[Event, ...]:
    """A row's `events`, [{onset, offset, label, texts}, ...]; what else they say is not read."""
    needs = "an event needs onset, offset (seconds) and label"
    events = []
    for one in _objects(value, "events", needs, ("onset", "offset", "label")):
        label = string(one["label"], "an event's label")
        onset, offset = span(one["onset"], one["offset"], (f"onset of {shown(label)}", f"offset of {shown(label)}"))
        texts = tuple(_strings(one.get("texts"), "an event's texts are strings"))
        events.append(Event(label, onset=onset, offset=offset, texts=texts))
    return tuple(events)


def _objects(value: Any, name: str, needs: str, keys: Sequence[str]) -> list[Mapping[str, Any]]:
    """A list of objects that have all `keys`; None is an empty one."""
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name} must be a list, not {shown(value)}")
    for one in value:
        if not isinstance(one, dict) or any(one.get(key) in (None, "") for key in keys):
            raise ValueError(f"{needs}, not {shown(one)}")
    return list(value)


if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"CAPTION_KINDS": "peav.types:MODALITIES"})
