"""`peav detect eval`: figures of detections against events that people marked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peav.cli import options
from peav.cli.console import echo, err, fail, out, print_json

if TYPE_CHECKING:
    from peav.events import Event

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
    threshold: options.Threshold = "0.3",
    median: options.Median = 0.0,
    low: options.Low = 1.0,
    min_gap: options.MinGap = 0.0,
    min_length: options.MinLength = 0.0,
    markdown: options.Markdown = False,
    as_json: options.Json = False,
) -> None:
    """Measure detections: F1 of events and segments, and where there are scores, AUROC of frames and PSDS.

    Recordings go by the names of their files without suffix, and by their folders too where two share a name; one that
    a side lacks has no events there.
    Events count with a collar of 200 ms (offset: or 20 % of the length), segments are of 1 s. A folder of score
    tables is turned into events by --threshold and the options below it; elsewhere these change nothing.
    """
    from peav.eval.detection_tables import detection_tables, read_results
    from peav.events.formats import read_events

    true = read_events(truth, folders=True)
    events, scores = read_results(found, true, options.postprocessing(threshold, low, median, min_gap, min_length))
    _say_strangers(set(scores) if scores is not None else set(events), true)
    tables = detection_tables(events, true, scores)
    if as_json:
        print_json({"results": [table.to_dict() for table in tables]})
    elif markdown:
        echo("\n\n".join(table.to_markdown() for table in tables))
    else:
        for table in tables:
            out.print(table.to_rich())


def _say_strangers(names: set[str], true: dict[str, list[Event]]) -> None:
    """Say which recordings have no counterpart; none at all that has is an error."""
    if names and true and not names & set(true):
        fail(f"no recording is on both sides: {min(names)} was judged, {min(true)} is true; names of files must agree")
    if strangers := names - set(true):
        err.print(f"[yellow]note:[/] {len(strangers)} recordings are not among the true ones and count as silent")
    if missing := set(true) - names:
        err.print(f"[yellow]note:[/] {len(missing)} true recordings were not judged and count as missed")
