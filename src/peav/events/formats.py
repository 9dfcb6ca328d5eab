"""Events and frame scores as text: JSON, the tables of sed_scores_eval, Audacity label tracks, WebVTT."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from peav.data.records import read_records
from peav.errors import EventsError
from peav.events.names import recording_name
from peav.events.types import FrameScores
from peav.types import Event
from peav.utils.checks import number, shown, span, string
from peav.utils.storage import write_all
from peav.utils.text import lines, parse_json, read_text, table

COLUMNS = ("filename", "onset", "offset", "event_label")


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
    return _as_text([(*COLUMNS, "score"), *rows])


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
    write_all(path, _as_text([("onset", "offset", *scores.labels), *rows]))


def read_scores(path: str | Path) -> FrameScores:
    """A score table as `write_scores` and sed_scores_eval write it.

    Raises:
        EventsError: no such file, no score table, frames that are not of one length.
    """
    path = Path(path)
    reader = csv.reader(io.StringIO(read_text(path, EventsError), newline=""), delimiter="\t", strict=True)
    try:
        head = next(reader, [])
        if head[:2] != ["onset", "offset"] or len(head) < 3:
            raise EventsError(f"{path}: no score table; its first line names onset, offset and the labels")
        rows = [[float(cell) for _, cell in zip(head, row, strict=True)] for row in reader]
    except csv.Error as error:
        raise EventsError(f"{path}:{reader.line_num}: {error}; a quote may be open: close it") from error
    except ValueError as error:
        if isinstance(error, EventsError):
            raise
        place = f"{path}:{reader.line_num}"
        raise EventsError(f"{place}: a row that does not hold a number for every column ({error})") from error
    table = np.array(rows, np.float64).reshape(len(rows), len(head))
    if not np.isfinite(table).all():
        raise EventsError(f"{path}: holds numbers that are not finite; score the recording again")
    if not rows:
        return FrameScores(tuple(head[2:]), table[:, 2:].T.astype(np.float32), 0.0)
    starts, stops = table[:, 0], table[:, 1]
    frame = float(starts[1] - starts[0] if len(table) > 1 else stops[0])
    if not np.allclose(starts, np.arange(len(table)) * frame, atol=1e-3) or not np.allclose(stops[:-1], starts[1:]):
        raise EventsError(f"{path}: frames must follow each other from 0 on and be of one length")
    return FrameScores(tuple(head[2:]), table[:, 2:].T.astype(np.float32), float(stops[-1]), frame)


def read_score_folder(folder: str | Path) -> dict[str, FrameScores]:
    """Every score table in a folder, and in folders within it, by its path there without `.tsv`. Raises EventsError."""
    folder = Path(folder)
    paths = sorted(folder.rglob("*.tsv"))
    found = {path.relative_to(folder).with_suffix("").as_posix(): read_scores(path) for path in paths}
    if not found:
        raise EventsError(f"{folder}: no score tables (*.tsv) in this folder; `peav detect --scores` writes them")
    return found


def read_events(path: str | Path, folders: bool = False, split: str | None = None) -> dict[str, list[Event]]:
    """Read events by recording.

    From any of these:

    - a table with the columns filename, onset, offset and event_label, with tabs or commas between them;
    - a manifest (JSON lines, Parquet, or CSV with a column `events`), or what `peav detect` wrote: rows with `events`
      and a `path`, `audio_path`, `video_path` or `id`;
    - a label track of Audacity (`.txt`), or a folder of them: start, end and label in each line, with tabs between.

    Recordings go by the name of their file without folder and suffix, as in sed_scores_eval; by their path without
    suffix where two would share a name, and always with `folders`. With `split`, of a manifest's recordings those of
    that split alone.

    Raises:
        EventsError: no such file, a line that cannot be read, times that are not finite or in their order, one
            recording twice in a manifest, two files that differ in their suffix alone, no recording of the split.
        ManifestError: a manifest in CSV or Parquet that cannot be read.
    """
    path = Path(path)
    found = _from_tracks(path) if path.is_dir() and split is None else _from_file(path, split)
    if folders:
        return found
    counts = Counter(PurePosixPath(name).name for name in found)
    return {
        PurePosixPath(name).name if counts[PurePosixPath(name).name] == 1 else name: events
        for name, events in found.items()
    }


def _from_tracks(folder: Path) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    files: dict[str, Path] = {}
    for track in sorted(folder.rglob("*.txt")):
        name = recording_name(track.relative_to(folder).with_suffix("").as_posix())
        if name in files:
            raise EventsError(f"{track}: the recording of {files[name]}, too; keep one of them")
        files[name], found[name] = track, _from_audacity(read_text(track, EventsError), track)
    if not found:
        raise EventsError(f"{folder}: no label tracks (*.txt) in this folder; give a file of events or such a folder")
    return found


def _from_file(path: Path, split: str | None) -> dict[str, list[Event]]:
    text = "" if path.suffix == ".parquet" else read_text(path, EventsError)
    head = next((line for _, line in lines(text)), "")
    if path.suffix == ".txt" and "event_label" not in head and split is None:
        return {recording_name(path.stem): _from_audacity(text, path)}
    if path.suffix == ".jsonl":
        rows = _from_records(_json_lines(text, path), split)
    elif path.suffix == ".parquet" or ("events" in head and "event_label" not in head):
        rows = _from_records(read_records(path), split)
    elif split is None:
        rows = _from_table(text, path)
    else:
        raise EventsError(f"{path}: has no splits, which are a column `split` of a manifest; leave the split out")
    found: dict[str, list[Event]] = {}
    files: dict[str, str] = {}
    for where, file, events in rows:
        name = recording_name(file)
        if files.setdefault(name, file) != file:
            raise EventsError(f"{where}: {file} and {files[name]} differ in their suffix alone; rename one")
        found.setdefault(name, []).extend(events)
    if split is not None and not found:
        raise EventsError(f"{path}: no recording is of split {split!r}; check the rows' `split`")
    return found


def _json_lines(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    for count, line in lines(text):
        yield f"{path}:{count}", parse_json(line, f"{path}:{count}: not a recording with events", EventsError)


def _from_records(records: Iterable[tuple[str, Any]], split: str | None) -> Iterator[tuple[str, str, list[Event]]]:
    places: dict[str, str] = {}
    for where, record in records:
        try:
            if not isinstance(record, dict):
                raise ValueError(f"{shown(record)} is no object")
            if split is not None and record.get("split") != split:
                continue
            file = next((record[key] for key in ("path", "audio_path", "video_path", "id") if record.get(key)), None)
            file = string(file, "`path`, or `id`,")
            events = record.get("events")
            if not isinstance(events, list | None):
                raise ValueError(f"events must be a list, not {shown(events)}")
            heard = [_event(event) for event in events or ()]
        except ValueError as error:
            form = "a line is {path, events: [{label, onset, offset}]}"
            raise EventsError(f"{where}: not a recording with events ({error}); {form}") from error
        if file in places:
            raise EventsError(f"{where}: a second recording of the name {file}, first at {places[file]}; rename one")
        places[file] = where
        yield where, file, heard


def _event(record: Any) -> Event:
    """An event as `to_record` has it. Raises ValueError."""
    if not isinstance(record, dict):
        raise ValueError(f"an event is an object, not {shown(record)}")
    onset, offset = span(record.get("onset"), record.get("offset"))
    score = number(record.get("score", 1.0), "score")
    return Event(string(record.get("label"), "label"), onset=onset, offset=offset, score=score)


def _from_table(text: str, path: Path) -> Iterator[tuple[str, str, list[Event]]]:
    head = next((line for _, line in lines(text)), "")
    delimiter = "\t" if "\t" in head or "," not in head else ","
    for where, row in table(text, delimiter, str(path), EventsError, COLUMNS):
        if not row["filename"]:
            raise EventsError(f"{where}: a row without a filename")
        yield where, row["filename"], [_heard(row, where)] if row["event_label"] else []


def _heard(row: Mapping[str, str], where: str) -> Event:
    """An event whose times and score are texts."""
    try:
        onset, offset = span(float(row["onset"]), float(row["offset"]))
        score = number(float(row.get("score") or 1.0), "score")
        return Event(row["event_label"], onset=onset, offset=offset, score=score)
    except ValueError as error:
        raise EventsError(f"{where}: onset and offset must be seconds ({error})") from error


def _from_audacity(text: str, path: Path) -> list[Event]:
    """Lines that begin with a backslash hold the frequencies of the label before, and are passed over."""
    events = []
    for count, line in lines(text):
        if line.startswith("\\"):
            continue
        cells = line.split("\t", 2)
        if len(cells) < 3 or not cells[2].strip():
            raise EventsError(f"{path}:{count}: not a label; a line is START, END and LABEL with tabs between")
        row = {"onset": cells[0], "offset": cells[1], "event_label": cells[2].strip()}
        events.append(_heard(row, f"{path}:{count}"))
    return events


def _as_text(rows: Iterable[Sequence[Any]]) -> str:
    return "".join("\t".join(_cell(str(value)) for value in row) + "\n" for row in rows)


def _cell(value: str) -> str:
    """Quoted where it must be; `csv.writer` leaves a carriage return bare, which readers take for a line's end."""
    return '"' + value.replace('"', '""') + '"' if any(mark in value for mark in '\t"\r\n') else value


def _one_line(label: str) -> str:
    return " ".join(label.split())


def _vtt_time(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def _vtt_text(label: str) -> str:
    return _one_line(label).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
