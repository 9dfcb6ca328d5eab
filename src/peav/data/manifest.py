"""Manifests: one clip a row, as JSON lines or Parquet; paths are relative to the manifest's folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from peav.utils.atomic import atomic_write
from peav.utils.storage import FilePart

CAPTION_KINDS = ("audio", "video", "audio_video")
FIELDS = ("id", "start", "end", "transcript", "split", "source", "license")


class ManifestError(ValueError):
    """A manifest cannot be read; the message names the file, the line and what to change."""


@dataclass(frozen=True)
class Event:
    """A labelled sound between two times, in seconds from the clip's start; `texts` are other words for it."""

    onset: float
    offset: float
    label: str
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Word:
    """A spoken word and its time, in seconds from the clip's start."""

    word: str
    start: float
    end: float


@dataclass(frozen=True)
class Row:
    """One clip: where its media lie, what is said of it, and every extra column as it was read.

    `audio_path` and `video_path` are absolute; both point to the same file where a manifest gives `path`. They are
    parts of an archive where the clip comes out of one.
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

    def by_people(self) -> Row:
        """The row without the synthetic captions of kinds of which it has others: what it is to be tested on."""
        made = {kind: texts for kind, texts in self.synthetic.items() if set(self.captions.get(kind, ())) <= set(texts)}
        real = {
            kind: [text for text in texts if kind in made or text not in self.synthetic.get(kind, ())]
            for kind, texts in self.captions.items()
        }
        return replace(self, captions=real, synthetic=made)


def read_manifest(path: str | Path, split: str | None = None) -> list[Row]:
    """Read a `.jsonl` or `.parquet` manifest, all rows or one split of it.

    Raises:
        ManifestError: the file is missing, a line is not JSON, a row lacks a path or holds something of another type,
            or ids (the paths of rows without) repeat.
    """
    path = Path(path)
    if not path.is_file():
        raise ManifestError(f"{path}: no such manifest; give a .jsonl or .parquet file")
    records = pq.read_table(path).to_pylist() if path.suffix == ".parquet" else _read_jsonl(path)
    rows, seen = [], set()
    for number, record in enumerate(records, start=1):
        row = parse_row(record, path.parent, f"{path}:{number}")
        if row.id in seen:
            raise ManifestError(
                f"{path}:{number}: id {row.id!r} stands twice; give each clip its own id (several texts of one clip "
                "are one row with a list of them)"
            )
        seen.add(row.id)
        if split is None or row.split == split:
            rows.append(row)
    return rows


def write_manifest(path: str | Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write plain records, atomically, as JSON lines or Parquet by the file's suffix."""
    path = Path(path)
    with atomic_write(path) as temporary:
        if path.suffix == ".parquet":
            rows = [dict(record) for record in records]
            columns = dict.fromkeys(name for row in rows for name in row)  # pyarrow would take those of the first row
            pq.write_table(pa.Table.from_pylist([dict.fromkeys(columns) | row for row in rows]), temporary)
        else:
            with open(temporary, "w", encoding="utf-8") as out:
                out.writelines(json.dumps(dict(record), ensure_ascii=False) + "\n" for record in records)


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    records = []
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise ManifestError(f"{path}:{number}: not JSON ({error.msg}); write one object a line") from error
            if not isinstance(record, dict):
                raise ManifestError(f"{path}:{number}: a row must be a JSON object, not {type(record).__name__}")
            records.append(record)
    return records


def parse_row(record: Mapping[str, Any], folder: Path, where: str) -> Row:
    """A manifest's record as a row; its paths are relative to `folder`. Raises ManifestError that begins `where`."""
    values = dict(record)
    shared = values.pop("path", None)
    audio, video = values.pop("audio_path", None) or shared, values.pop("video_path", None) or shared
    if audio is None and video is None:
        raise ManifestError(f"{where}: a row needs `path`, `audio_path` or `video_path`")
    if values.get("id") is None:
        values["id"] = str(audio or video)
    if not isinstance(values["id"], str) or not values["id"]:
        raise ManifestError(f"{where}: an `id` is a string of the row's own, not {values['id']!r}")
    known = {name: values.pop(name, None) for name in FIELDS}
    for name, value in known.items():
        kind = (int, float) if name in ("start", "end") else str
        if value is not None and not isinstance(value, kind):
            wanted = "a number of seconds" if name in ("start", "end") else "a string"
            raise ManifestError(f"{where}: {name} must be {wanted}, not {value!r}")
    captions = _captions(values.pop("captions", None), f"{where}: captions")
    synthetic = _captions(values.pop("synthetic", None), f"{where}: synthetic captions")
    plain = () if captions else _plain(values, where)
    captions = captions or _everywhere(plain, audio is not None, video is not None)
    return Row(
        audio_path=folder.absolute() / audio if audio else None,
        video_path=folder.absolute() / video if video else None,
        captions=_joined(captions, synthetic),
        synthetic=synthetic,
        plain=plain,
        words=parse_words(values.pop("words", None), where),
        events=_events(values.pop("events", None), where),
        extra=values,
        **known,
    )


def _captions(value: Any, where: str) -> dict[str, list[str]]:
    """Lists of captions by kind; a single string counts as a list of one."""
    value = value or {}
    if not isinstance(value, dict):
        raise ManifestError(f"{where} go by kind ({', '.join(CAPTION_KINDS)}), not {value!r}")
    unknown = set(value) - set(CAPTION_KINDS)
    if unknown:
        raise ManifestError(f"{where} go by kind ({', '.join(CAPTION_KINDS)}), not {', '.join(sorted(unknown))}")
    captions = {kind: [texts] if isinstance(texts, str) else list(texts or ()) for kind, texts in value.items()}
    if not all(isinstance(text, str) for texts in captions.values() for text in texts):
        raise ManifestError(f"{where} must be strings, not {value!r}")
    return {kind: texts for kind, texts in captions.items() if texts}


def _joined(captions: Mapping[str, list[str]], more: Mapping[str, list[str]]) -> dict[str, list[str]]:
    every = {kind: [*captions.get(kind, ()), *more.get(kind, ())] for kind in CAPTION_KINDS}
    return {kind: texts for kind, texts in every.items() if texts}


def _plain(values: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """A row's `text` or else `caption`, one or a list."""
    value = values.get("text") or values.get("caption") or ()
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else (value,)
    if value and not all(isinstance(text, str) for text in texts):
        raise ManifestError(f"{where}: text must be a string or a list of strings, not {value!r}")
    return texts if value else ()


def _everywhere(texts: Iterable[str], audio: bool, video: bool) -> dict[str, list[str]]:
    """The same texts under every kind of caption that fits the streams."""
    fits = {"audio": audio, "video": video, "audio_video": audio and video}
    return {kind: list(texts) for kind in CAPTION_KINDS if fits[kind] and texts}


def parse_words(value: Any, where: str) -> tuple[Word, ...]:
    """A row's `words`, [{word, start, end}, ...], where it has any. Raises ManifestError."""
    try:
        return tuple(Word(str(w["word"]).lower(), float(w["start"]), float(w["end"])) for w in value or ())
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"{where}: a word needs word, start and end (seconds)") from error


def _events(value: Any, where: str) -> tuple[Event, ...]:
    try:
        events = tuple(
            Event(float(e["onset"]), float(e["offset"]), str(e["label"]), _strings(e.get("texts"))) for e in value or ()
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ManifestError(f"{where}: an event needs onset, offset (seconds) and label, not {error}") from error
    for event in events:
        if not 0 <= event.onset <= event.offset < float("inf"):
            times = f"from {event.onset} to {event.offset} s"
            raise ManifestError(f"{where}: {event.label!r} lasts {times}; an event starts at 0 or later, and then ends")
    return events


def _strings(value: Any) -> tuple[str, ...]:
    """One text or a list of them; None is no text."""
    return (value,) if isinstance(value, str) else tuple(map(str, value or ()))
