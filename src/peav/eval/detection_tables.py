"""Detections against events that people marked: results are read, recordings matched, figures put into tables."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from peav.eval.detection import Counts, Events, Scores, event_counts, frame_auroc, macro, micro, segment_counts
from peav.eval.psds import psds
from peav.eval.tables import Column, Table
from peav.events import Event, FrameScores, Postprocessing, find_events
from peav.events.formats import read_events, read_score_folder
from peav.events.names import aligned, recording_name, unique_names
from peav.utils.jsonl import read_lines


def read_result_events(
    found: Path, true: Collection[str], scores: dict[str, FrameScores] | None, postprocessing: Postprocessing
) -> dict[str, list[Event]]:
    """Events of each recording, by the names of `true`.

    Args:
        found: a folder that `detect_files` wrote, a folder of score tables, or a file of events.
        true: the recordings' names in the truth.
        scores: what `read_result_scores` gives for both.
        postprocessing: makes events of score tables that stand alone; elsewhere it changes nothing.

    Raises:
        EventsError: a file that cannot be read, a recording that may be either of two.
    """
    journal = found / "detections.jsonl" if found.is_dir() else found
    if scores is not None and not journal.is_file():
        return {name: find_events(one, postprocessing) for name, one in scores.items()}
    return aligned(read_events(journal, folders=True), true)


def read_result_scores(found: Path, true: Collection[str]) -> dict[str, FrameScores] | None:
    """The scores of a folder that `detect_files` wrote or of a folder of score tables, by the names of `true`; None
    where there are none.
    """
    if not found.is_dir():
        return None
    if (found / "scores").is_dir():
        return aligned(_by_path(read_score_folder(found / "scores"), found / "detections.jsonl"), true)
    return None if (found / "detections.jsonl").is_file() else aligned(read_score_folder(found), true)


def _by_path(scores: dict[str, FrameScores], journal: Path) -> dict[str, FrameScores]:
    """Score tables by the paths of their recordings, where the run that wrote them tells."""
    paths = [Path(line["path"]) for line in read_lines(journal) if isinstance(line.get("path"), str)]
    names = {name: recording_name(str(path)) for path, name in unique_names(dict.fromkeys(paths)).items()}
    return {names[name]: scores[name] for name in names} if names and names.keys() <= scores.keys() else scores


def detection_tables(events: Events, true: Events, scores: Scores | None = None) -> list[Table]:
    """F1 of events and of segments of 1 s for each label; with scores AUROC of frames and, in a second table, PSDS.

    Recordings go by name; one that a side lacks has no events there.
    """
    labels = None if scores is None else next(iter(scores.values())).labels
    by_event, by_segment = event_counts(events, true, labels=labels), segment_counts(events, true, labels=labels)
    auroc = {} if scores is None else frame_auroc(scores, true)
    rows: list[dict[str, Any]] = [
        {"label": label, "auroc": auroc.get(label), **_figures(count, by_segment[label])}
        for label, count in by_event.items()
    ]
    means = {key: macro({row["label"]: row[key] for row in rows}) for key in ("f1", "segment_f1")}
    mean = {"label": "mean of labels", "auroc": macro(auroc) if auroc else None, **means}
    total = {"label": "all together", **_figures(micro(by_event), micro(by_segment))}
    columns = (
        Column("label", "label"),
        Column("events", "events", "count"),
        *([] if scores is None else [Column("auroc", "AUROC", "percent")]),
        *(Column(key, title, "percent") for key, title in (("precision", "P"), ("recall", "R"), ("f1", "F1"))),
        Column("segment_f1", "segment F1", "percent"),
    )
    title = "Frames (AUROC), events (P, R, F1) and segments of 1 s"
    figures = Table(title, columns, tuple(map(_known, [*rows, mean, total])))
    return [figures] if scores is None else [figures, _psds_table(scores, true)]


def _figures(events: Counts, segments: Counts) -> dict[str, Any]:
    about = {"events": events.hits + events.missed, "precision": events.precision, "recall": events.recall}
    return {**about, "f1": events.f1, "segment_f1": segments.f1}


def _psds_table(scores: Scores, true: Events) -> Table:
    columns = (Column("psds1", "PSDS 1", "percent"), Column("psds2", "PSDS 2", "percent"))
    return Table("PSDS", columns, (_known(dict(psds(scores, true))),))


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """Without the figures that have no value."""
    return {key: value for key, value in row.items() if value is not None and value == value}
