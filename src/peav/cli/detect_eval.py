"""`peav detect eval`: figures of detections against events that people marked."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peav.cli.console import Json, echo, err, fail, out, print_json
from peav.cli.detect import Low, Median, MinGap, MinLength, Threshold, postprocessing

if TYPE_CHECKING:
    from peav.eval.tables import Table
    from peav.events import Event, FrameScores

Results = Annotated[
    Path, typer.Argument(help="A folder of `peav detect -o`, a folder of score tables, or a file of events.")
]
Truth = Annotated[
    Path,
    typer.Argument(help="True events: a table (tsv, csv), a manifest (jsonl) with events, or Audacity's label tracks."),
]


def detect_eval(
    found: Results,
    truth: Truth,
    threshold: Threshold = "0.3",
    median: Median = 0.0,
    low: Low = 1.0,
    min_gap: MinGap = 0.0,
    min_length: MinLength = 0.0,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown on stdout instead of tables.")] = False,
    as_json: Json = False,
) -> None:
    """Measure detections: F1 of events and segments, and where there are scores, AUROC of frames and PSDS.

    Recordings go by the names of their files without suffix, and by their folders too where two share a name; one that
    a side lacks has no events there.
    Events count with a collar of 200 ms (offset: or 20 % of the length), segments are of 1 s. A folder of score
    tables is turned into events by --threshold and the options below it; elsewhere these change nothing.
    """
    from peav.events import find_events
    from peav.events.formats import read_events
    from peav.events.names import aligned

    true = read_events(truth, folders=True)
    scores = read_result_scores(found, true)
    journal = found / "detections.jsonl" if found.is_dir() else found
    if scores is not None and not journal.is_file():
        how = postprocessing(threshold, low, median, min_gap, min_length)
        events = {name: find_events(one, how) for name, one in scores.items()}
    else:
        events = aligned(read_events(journal, folders=True), true)
    _say_strangers(set(scores) if scores is not None else set(events), true)
    tables = _tables(events, true, scores)
    if as_json:
        print_json({"results": [table.to_dict() for table in tables]})
    elif markdown:
        echo("\n\n".join(table.to_markdown() for table in tables))
    else:
        for table in tables:
            out.print(table.to_rich())


def read_result_scores(found: Path, true: Collection[str]) -> dict[str, FrameScores] | None:
    """The scores of a folder of `peav detect -o --scores` or of a folder of score tables, by the names of `true`; None
    where there are none."""
    from peav.events.formats import read_score_folder
    from peav.events.names import aligned

    if not found.is_dir():
        return None
    if (found / "scores").is_dir():
        return aligned(_by_path(read_score_folder(found / "scores"), found / "detections.jsonl"), true)
    return None if (found / "detections.jsonl").is_file() else aligned(read_score_folder(found), true)


def _by_path(scores: dict[str, FrameScores], journal: Path) -> dict[str, FrameScores]:
    """Score tables by the paths of their recordings, where the run that wrote them tells."""
    from peav.events.names import recording_name, unique_names
    from peav.utils.jsonl import read_lines

    paths = [Path(line["path"]) for line in read_lines(journal) if isinstance(line.get("path"), str)]
    names = {name: recording_name(str(path)) for path, name in unique_names(dict.fromkeys(paths)).items()}
    return {names[name]: scores[name] for name in names} if names and names.keys() <= scores.keys() else scores


def _say_strangers(names: set[str], true: dict[str, list[Event]]) -> None:
    """Say which recordings have no counterpart; none at all that has is an error."""
    if names and true and not names & set(true):
        fail(f"no recording is on both sides: {min(names)} was judged, {min(true)} is true; names of files must agree")
    if strangers := names - set(true):
        err.print(f"[yellow]note:[/] {len(strangers)} recordings are not among the true ones and count as silent")
    if missing := set(true) - names:
        err.print(f"[yellow]note:[/] {len(missing)} true recordings were not judged and count as missed")


def _tables(
    events: dict[str, list[Event]], true: dict[str, list[Event]], scores: dict[str, FrameScores] | None
) -> list[Table]:
    from peav.eval.detection import event_counts, frame_auroc, macro, micro, segment_counts
    from peav.eval.tables import Column, Table

    labels = None if scores is None else next(iter(scores.values())).labels
    by_event, by_segment = event_counts(events, true, labels=labels), segment_counts(events, true, labels=labels)
    auroc = {} if scores is None else frame_auroc(scores, true)
    rows: list[dict[str, Any]] = []
    for label, count in by_event.items():
        row = {"label": label, "events": count.hits + count.missed, "auroc": auroc.get(label)}
        row |= {"precision": count.precision, "recall": count.recall}
        rows.append(row | {"f1": count.f1, "segment_f1": by_segment[label].f1})
    mean = {"label": "mean of labels", "auroc": macro(auroc) if auroc else None}
    for key, counts in (("f1", by_event), ("segment_f1", by_segment)):
        mean[key] = macro({label: count.f1 for label, count in counts.items()})
    pooled, segments = micro(by_event), micro(by_segment)
    total = {"label": "all together", "events": pooled.hits + pooled.missed, "segment_f1": segments.f1}
    total |= {"precision": pooled.precision, "recall": pooled.recall, "f1": pooled.f1}
    columns = (
        Column("label", "label"),
        Column("events", "events", "count"),
        *([] if scores is None else [Column("auroc", "AUROC", "percent")]),
        *(Column(key, title, "percent") for key, title in (("precision", "P"), ("recall", "R"), ("f1", "F1"))),
        Column("segment_f1", "segment F1", "percent"),
    )
    tables = [
        Table(
            "Frames (AUROC), events (P, R, F1) and segments of 1 s", columns, tuple(map(_known, [*rows, mean, total]))
        )
    ]
    if scores is not None:
        tables.append(_psds_table(scores, true))
    return tables


def _psds_table(scores: dict[str, FrameScores], true: dict[str, list[Event]]) -> Table:
    from peav.eval.psds import psds
    from peav.eval.tables import Column, Table

    columns = (Column("psds1", "PSDS 1", "percent"), Column("psds2", "PSDS 2", "percent"))
    return Table("PSDS", columns, (_known(dict(psds(scores, true))),))


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """Without the figures that have no value."""
    return {key: value for key, value in row.items() if value is not None and value == value}
