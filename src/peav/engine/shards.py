"""The output of a run: Parquet shards that are manifests, a record of every clip's end, and the list of failures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from peav.data.manifest import Row
from peav.data.places import SHARDS
from peav.engine.clip import Clip
from peav.engine.partition import Partition
from peav.jobs import failure
from peav.types import MODALITIES
from peav.utils.atomic import atomic_write
from peav.utils.storage import write_all

ENDS = "partitions"  # of which each is finished once its file is there
_TEXTS = pa.struct([(kind, pa.list_(pa.string())) for kind in MODALITIES])
_WEAK = pa.struct(
    [(name, pa.string()) for name in ("captioner", "text", "kind", "model", "prompt")]
    + [("score", pa.float64()), ("confidence", pa.string())]
)
COLUMNS = pa.schema(
    [(name, pa.string()) for name in ("id", "audio_path", "video_path")]
    + [("start", pa.float64()), ("end", pa.float64()), ("captions", _TEXTS), ("synthetic", _TEXTS)]
    + [("transcript", pa.string()), ("transcript_by", pa.string()), ("weak", pa.list_(_WEAK))]
    + [(f"{kind}_by", pa.string()) for kind in MODALITIES]
    + [("fallback", pa.bool_()), ("rejected", pa.list_(pa.string())), ("measures", pa.string())]
    + [(name, pa.string()) for name in ("split", "source", "license")]
)


def write_shard(out: Path, partition: Partition, clips: Sequence[Clip], settings: str) -> None:
    """Write what is done of a partition as one shard, sorted by id, and then the end of every clip.

    A shard holds nothing but what follows from the clips, the models and the prompts, so that two runs write the same
    bytes. A caption of people stays in `captions`; ours stand in `synthetic`, as training reads them.
    """
    done = sorted((clip for clip in clips if clip.open), key=lambda clip: clip.id)
    records = [_record(clip) for clip in done]
    table = pa.Table.from_pylist(records, schema=_schema(records))
    with atomic_write(out / SHARDS / f"{partition.name}.parquet") as temporary:
        pq.write_table(table, temporary, compression="zstd")
    ends = [end for clip in clips if (end := _end(clip))]
    counts = Counter("filtered" if "filtered" in end else "failed" for end in ends) + Counter(done=len(done))
    said = {"key": partition.key, "settings": settings, "counts": counts, "ends": ends}
    write_all(end_path(out, partition), json.dumps(said, ensure_ascii=False, indent=0))


def end_path(out: Path, partition: Partition) -> Path:
    """How the clips of a partition ended."""
    return out / ENDS / f"{partition.name}.json"


def read_end(out: Path, partition: Partition, settings: str) -> dict[str, Any] | None:
    """How a partition of these rows and settings ended; None where it has not."""
    try:
        said: dict[str, Any] = json.loads(end_path(out, partition).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return said if (said.get("key"), said.get("settings")) == (partition.key, settings) else None


def failures(ends: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The lines of `failures.jsonl` of a partition's end."""
    for end in ends["ends"]:
        if "failed" in end:
            stage, kind, reason = end["failed"]
            yield {**failure(end["path"], ValueError(reason), id=end["id"], stage=stage), "error": kind}


def _end(clip: Clip) -> dict[str, Any] | None:
    """Why a clip is not done."""
    path = str(clip.row.audio_path or clip.row.video_path)
    if clip.failed is not None:
        return {"id": clip.id, "path": path, "failed": list(clip.failed)}
    return None if clip.filtered is None else {"id": clip.id, "filtered": clip.filtered}


def _record(clip: Clip) -> dict[str, Any]:
    row = clip.row
    people = {
        kind: [t for t in row.captions.get(kind, ()) if t not in row.synthetic.get(kind, ())] for kind in row.captions
    }
    record = {
        **_extra(row),
        "id": clip.id,
        "audio_path": _text(row.audio_path),
        "video_path": _text(row.video_path),
        "start": row.start,
        "end": row.end,
        "captions": {kind: people.get(kind) or None for kind in MODALITIES},
        "synthetic": {kind: [clip.captions[kind]] if kind in clip.captions else None for kind in MODALITIES},
        "transcript": row.transcript or clip.transcript,
        "transcript_by": None if row.transcript else clip.transcript_by,
        "weak": [{"captioner": name, **vars(weak)} for name, weak in clip.weak.items()],
        **{f"{kind}_by": clip.provenance.get(kind) for kind in MODALITIES},
        "fallback": clip.fallback,
        "rejected": clip.rejected,
        "measures": json.dumps(clip.measures, sort_keys=True, ensure_ascii=False),
        "split": row.split,
        "source": row.source,
        "license": row.license,
    }
    if row.events:
        record["events"] = [asdict(event) for event in row.events]
    if row.words:
        record["words"] = [asdict(word) for word in row.words]
    return record


def _extra(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.extra.items() if name not in COLUMNS.names and name != "path"}


def _schema(records: Sequence[dict[str, Any]]) -> pa.Schema:
    """Our columns, and those that the manifest had more; of these, what no column can hold becomes JSON."""
    more = []
    for name in sorted({name for record in records for name in record} - set(COLUMNS.names)):
        values = [record.get(name) for record in records]
        try:
            column = pa.table({name: values})
            pq.write_table(column, pa.BufferOutputStream())
            more.append(column.schema.field(name))
        except (pa.ArrowException, OverflowError, UnicodeError):  # of several types, too large, half a character
            more.append(pa.field(name, pa.string()))
            for record in records:
                record[name] = json.dumps(record.get(name), sort_keys=True, default=str)
    return pa.schema([*COLUMNS, *more])


def _text(path: object) -> str | None:
    return None if path is None else str(path)
