"""Folders of labeled recordings (`manifest.jsonl` with path, caption, label or transcript) as manifest rows.

Their manifests have neither ids nor caption kinds; this gives them both. What is held out is said by the data, so that
a model trained from such a folder can be tested on the same folder. The first of these that there is decides:

- a row's own `split`;
- in rows whose `source` is a set with folds of its own (`TEST_FOLDS`: ESC-10), the fold that is held out there;
- a hash of a row's source clip or transcript: `test` with a chance of three in eight.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from peav.data.manifest import Row, parse_row, unique
from peav.data.records import SUFFIXES, read_records
from peav.errors import ManifestError
from peav.utils.checks import string

TEST_FOLDS = {"karolpiczak/ESC-10": 3}
HELD_OUT = 96 / 256


def read_recordings(folder: str | Path, split: str | None = None) -> list[Row]:
    """The rows of a folder of recordings, all or one split (`train` or `test`); `id` is FOLDER/PATH.

    A row's `caption` is its audio caption, and its visual and audio-visual one too where its kind is `video+audio`.
    `extra` keeps label, fold, words and every other field.

    Raises:
        ManifestError: the folder has no `manifest.jsonl` (or .csv, .tsv, .parquet), a line of it is not a row of
            recordings, or two rows are one file.
    """
    folder = Path(folder).absolute()
    manifest = manifest_in(folder)
    if manifest is None:
        raise ManifestError(f"{folder}: no manifest.jsonl here; give the folder that holds one")
    rows = unique((where, _row(record, folder, where)) for where, record in read_records(manifest))
    return [row for row in rows if split is None or row.split == split]


def manifest_in(folder: Path) -> Path | None:
    """A folder's `manifest.jsonl`, .csv, .tsv or .parquet, the first of these that there is."""
    return next((path for path in (folder / f"manifest{suffix}" for suffix in SUFFIXES) if path.is_file()), None)


def _row(record: dict[str, Any], folder: Path, where: str) -> Row:
    """A record with `kind` says which streams its file has; the rest is as in any manifest."""
    try:
        path, kind = string(record.get("path"), "path"), string(record.get("kind"), "kind")
        if record.get("label") is not None:
            string(record["label"], "label")
    except ValueError as error:
        fix = "a recording is an object with path and kind (sound, speech, video+audio, ...)"
        raise ManifestError(f"{where}: {error}; {fix}") from error
    fields = {**record, "id": f"{folder.name}/{record.get('id') or path}", "path": None, "audio_path": path}
    fields["video_path"] = path if kind.startswith("video") else None
    if record.get("captions") is None and record.get("caption"):
        kinds = ("audio", "video", "audio_video") if kind == "video+audio" else ("audio",)
        fields["captions"] = dict.fromkeys(kinds, record["caption"])
    row = parse_row(fields, folder, where)
    record = record | {"fold": row.extra["fold"]} if "fold" in row.extra else record
    row = replace(row, extra=record, plain=())
    return row if row.split is not None else replace(row, split=_split(row, path, where))


def _split(row: Row, path: str, where: str) -> str:
    for source, held_out in TEST_FOLDS.items():
        if source in (row.source or ""):
            if row.extra.get("fold") is None:
                raise ManifestError(f"{where}: a clip of {source} without its `fold`, by which it is held out; add it")
            return "test" if row.extra["fold"] == held_out else "train"
    apart = row.transcript or origin(PurePosixPath(path).stem)
    return "test" if hashlib.sha256(apart.encode()).digest()[0] < HELD_OUT * 256 else "train"


def origin(stem: str) -> str:
    """What a clip was cut from: clips of one recording share its number (4-250869-A, 4-250869-B) and must not stand on
    both sides of a split.
    """
    pieces = stem.split("-")
    return pieces[1] if len(pieces) > 2 else stem
