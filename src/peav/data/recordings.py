"""Folders of labelled recordings (`manifest.jsonl` with path, caption, label or transcript) as manifest rows.

Their manifests have no ids, caption kinds or splits; this gives them all three. What is held out is fixed, so that
a model trained from such a folder can be tested on the same folder:

- in ESC-10, whose folds are large enough to test on, fold 3 is `test` and the others are `train`;
- any other row is `test` with a chance of three in eight, decided by a hash of its source clip or its transcript.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from peav.data.manifest import ManifestError, Row, parse_words

TEST_FOLDS = {"esc10": 3}
HELD_OUT = 96 / 256


def read_recordings(folder: str | Path, split: str | None = None) -> list[Row]:
    """The rows of a folder of recordings, all or one split (`train` or `test`).

    A row's `caption` is its audio caption, and its visual and audio-visual one too where its kind is `video+audio`.
    `extra` keeps label, fold, words and every other field.

    Raises:
        ManifestError: the folder has no `manifest.jsonl`, or a line of it is not a row of recordings.
    """
    manifest = Path(folder) / "manifest.jsonl"
    if not manifest.is_file():
        raise ManifestError(f"{folder}: no manifest.jsonl here; give the folder that holds one")
    rows = []
    for number, line in enumerate(manifest.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = _row(json.loads(line), manifest.parent.absolute())
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            fix = "a recording is a JSON object with path and kind (and fold, for ESC-10)"
            raise ManifestError(f"{manifest}:{number}: {error!r}; {fix}") from error
        if split is None or row.split == split:
            rows.append(row)
    return rows


def _row(record: dict[str, Any], folder: Path) -> Row:
    path = folder / record["path"]
    seen = record["kind"].startswith("video")
    caption = record.get("caption")
    kinds = ("audio", "video", "audio_video") if record["kind"] == "video+audio" else ("audio",)
    return Row(
        id=f"{folder.name}/{path.stem}",
        audio_path=path,
        video_path=path if seen else None,
        captions={kind: [caption] for kind in kinds} if caption else {},
        transcript=record.get("transcript"),
        words=parse_words(record.get("words"), str(path)),
        split=_split(record, folder.name, path),
        source=record.get("source"),
        license=record.get("licence"),
        extra=record,
    )


def _split(record: dict[str, Any], folder: str, path: Path) -> str:
    if folder in TEST_FOLDS:
        return "test" if record["fold"] == TEST_FOLDS[folder] else "train"
    apart = record.get("transcript") or origin(path.stem)
    return "test" if hashlib.sha256(apart.encode()).digest()[0] < HELD_OUT * 256 else "train"


def origin(stem: str) -> str:
    """What a clip was cut from: clips of one recording share its number (4-250869-A, 4-250869-B) and must not stand on
    both sides of a split."""
    pieces = stem.split("-")
    return pieces[1] if len(pieces) > 2 else stem
