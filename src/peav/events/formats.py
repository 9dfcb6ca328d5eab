"""Events and frame scores as text: JSON, the tables of sed_scores_eval, Audacity label tracks, WebVTT."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from peav.events.types import Event, FrameScores
from peav.utils.atomic import atomic_write

COLUMNS = ("filename", "onset", "offset", "event_label")


class EventsError(ValueError):
    """A file of events or scores cannot be read; the message names the file, the line and what to change."""


def to_record(event: Event) -> dict[str, Any]:
    """An event as plain data, times to the millisecond."""
    times = {"onset": round(event.onset, 3), "offset": round(event.offset, 3)}
    return {"label": event.label, **times, "score": round(event.score, 4)}


def to_tsv(recordings: Mapping[str, Sequence[Event]]) -> str:
    """The table of sed_scores_eval and DCASE, with a column for the score; a recording without events has a row."""
    rows: list[tuple[Any, ...]] = []
    for name, events in recordings.items():
        found = [(name, f"{e.onset:.3f}", f"{e.offset:.3f}", e.label, f"{e.score:.4f}") for e in events]
        rows += found or [(name, "", "", "", "")]
    return _table([(*COLUMNS, "score"), *rows])


def to_audacity(events: Iterable[Event]) -> str:
    """A label track for Audacity's File > Import > Labels."""
    return "".join(f"{e.onset:.6f}\t{e.offset:.6f}\t{_one_line(e.label)}\n" for e in events)


def to_vtt(events: Iterable[Event]) -> str:
    """WebVTT subtitles: one cue for each event."""
    cues = [f"{_vtt_time(e.onset)} --> {_vtt_time(e.offset)}\n{_vtt_text(e.label)}\n" for e in events]
    return "\n".join(["WEBVTT\n", *cues])


def write_scores(path: Path, scores: FrameScores) -> None:
    """The score table of sed_scores_eval: onset, offset and a column for every label, a row for every frame."""
    edges = scores.edges.round(6).tolist()
    values = [[str(value) for value in frame] for frame in scores.probabilities.T]  # the shortest that reads back equal
    rows = [(start, stop, *frame) for start, stop, frame in zip(edges, edges[1:], values, strict=False)]
    with atomic_write(path) as temporary:
        temporary.write_text(_table([("onset", "offset", *scores.labels), *rows]), encoding="utf-8")


def read_scores(path: str | Path) -> FrameScores:
    """A score table as `write_scores` and sed_scores_eval write it.

    Raises:
        EventsError: no such file, no score table, frames that are not of one length.
    """
    path = Path(path)
    with _opened(path) as lines:
        reader = csv.reader(lines, delimiter="\t")
        head = next(reader, [])
        if head[:2] != ["onset", "offset"] or len(head) < 3:
            raise EventsError(f"{path}: no score table; its first line names onset, offset and the labels")
        try:
            rows = [[float(cell) for _, cell in zip(head, row, strict=True)] for row in reader]
        except ValueError as error:
            raise EventsError(f"{path}: a row that does not hold a number for every column ({error})") from error
    table = np.array(rows, np.float64).reshape(len(rows), len(head))
    if not rows:
        return FrameScores(tuple(head[2:]), table[:, 2:].T.astype(np.float32), 0.0)
    starts, stops = table[:, 0], table[:, 1]
    frame = float(starts[1] - starts[0] if len(table) > 1 else stops[0])
    if not np.allclose(starts, np.arange(len(table)) * frame, atol=1e-3) or not np.allclose(stops[:-1], starts[1:]):
        raise EventsError(f"{path}: frames must follow each other from 0 on and be of one length")
    return FrameScores(tuple(head[2:]), table[:, 2:].T.astype(np.float32), float(stops[-1]), frame)


def read_score_folder(folder: str | Path) -> dict[str, FrameScores]:
    """Every score table in a folder by the name of its file without `.tsv`. Raises EventsError."""
    found = {path.stem: read_scores(path) for path in sorted(Path(folder).glob("*.tsv"))}
    if not found:
        raise EventsError(f"{folder}: no score tables (*.tsv) in this folder; `peav detect --scores` writes them")
    return found


def read_events(path: str | Path) -> dict[str, list[Event]]:
    """Events by recording, from a table with the columns filename, onset, offset and event_label (tabs between them),
    or from JSON lines with `events` and a `path`, `audio_path` or `id`: a manifest, or what `peav detect` wrote.

    Recordings go by the name of their file without folder and suffix, as in sed_scores_eval.

    Raises:
        EventsError: no such file, a line that cannot be read, two recordings of one name.
    """
    path = Path(path)
    found: dict[str, list[Event]] = {}
    with _opened(path) as lines:
        if path.suffix == ".jsonl":
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    name, events = _from_json(line, f"{path}:{number}")
                    if name in found:
                        raise EventsError(f"{path}:{number}: a second recording of the name {name}; rename one")
                    found[name] = events
        else:
            for name, events in _from_table(lines, path):
                found.setdefault(name, []).extend(events)
    return found


def _from_json(line: str, where: str) -> tuple[str, list[Event]]:
    try:
        record = json.loads(line)
        name = record.get("path") or record.get("audio_path") or record["id"]
        events = [
            Event(str(e["label"]), float(e["onset"]), float(e["offset"]), float(e.get("score", 1.0)))
            for e in record.get("events") or ()
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EventsError(
            f"{where}: not a recording with events ({error!r}); a line is {{path, events: [{{label, onset, offset}}]}}"
        ) from error
    return Path(name).stem, events


def _from_table(lines: Iterable[str], path: Path) -> Iterator[tuple[str, list[Event]]]:
    reader = csv.DictReader(lines, delimiter="\t")
    missing = set(COLUMNS) - set(reader.fieldnames or ())
    if missing:
        raise EventsError(f"{path}: lacks the columns {', '.join(sorted(missing))}; tabs stand between columns")
    for row in reader:
        try:
            score = float(row.get("score") or 1.0)
            name = Path(row["filename"]).stem
            yield (
                name,
                [Event(row["event_label"], float(row["onset"]), float(row["offset"]), score)]
                if row["event_label"]
                else [],
            )
        except (TypeError, ValueError) as error:
            raise EventsError(f"{path}:{reader.line_num}: onset and offset must be seconds ({error})") from error


def _opened(path: Path) -> io.StringIO:
    if not path.is_file():
        raise EventsError(f"{path}: no such file; check the path")
    try:
        return io.StringIO(path.read_text(encoding="utf-8"), newline="")
    except UnicodeDecodeError as error:
        raise EventsError(f"{path}: not a text file in UTF-8 ({error.reason})") from error


def _table(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter="\t", lineterminator="\n").writerows(rows)
    return text.getvalue()


def _one_line(label: str) -> str:
    return " ".join(label.split())


def _vtt_time(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def _vtt_text(label: str) -> str:
    return _one_line(label).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
