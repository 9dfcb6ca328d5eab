"""`peav detect eval`: figures of detections against events that people marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peav.cli import options
from peav.cli.console import echo, err, escape, fail, load_detector, out, print_json
from peav.types import POSTPROCESSING
from peav.utils.text import counted

if TYPE_CHECKING:
    from peav.detector import Detector
    from peav.events import Event, Postprocessing

Results = Annotated[
    Path,
    typer.Argument(help="A folder of `peav detect -o`, of score tables or of recordings, or a file of events."),
]
Truth = Annotated[
    Path,
    typer.Argument(help="True events: a table (tsv, csv), a manifest (jsonl) with events, or Audacity's label tracks."),
]

ZERO_PSDS = (
    "PSDS 0.0: the score is the mean share of events found less its standard deviation over the labels; with up to "
    "100 false alarms an hour, the deviation takes all of it"
)


def detect_eval(
    found: Results,
    truth: Truth,
    split: Annotated[
        str | None, typer.Option(help="Of a manifest, judge the recordings of this split alone, such as test.")
    ] = None,
    only_found: Annotated[
        bool, typer.Option("--only-found", help="Judge the recordings alone that FOUND holds, as after --limit.")
    ] = False,
    threshold: options.Threshold = None,
    median: options.Median = None,
    low: options.Low = None,
    min_gap: options.MinGap = None,
    min_length: options.MinLength = None,
    model: options.FrameModel = "frame-tiny",
    device: options.Device = None,
    revision: options.Revision = None,
    dtype: options.Dtype = None,
    cache_dir: options.CacheDir = None,
    markdown: options.Markdown = False,
    as_json: options.Json = False,
) -> None:
    """Measure detections: F1 of events and segments, and where there are scores, AUROC of frames and PSDS.

    Recordings go by the names of their files without suffix, and by their folders too where two share a name; one that
    a side lacks has no events there, unless --only-found leaves it out.
    Events count with a collar of 200 ms (offset: or 20 % of the length), segments are of 1 s. Of a folder of recordings
    the model listens to those that are among the true ones, for the labels that these have. Score tables are turned
    into events as the run that wrote them did it, or by --threshold and the options below it; elsewhere these change
    nothing.
    """
    from peav.eval.detection_tables import detection_tables, read_result_events, read_result_scores
    from peav.eval.psds import SCENARIOS
    from peav.events.formats import read_events

    true = read_events(truth, folders=True, split=split)
    given = (threshold, low, median, min_gap, min_length)
    with ExitStack() as stack:
        if recordings := _recordings(found):
            folder = Path(stack.enter_context(TemporaryDirectory()))
            _listen(recordings, true, given, folder, load_detector(model, device, revision, dtype, cache_dir))
            found = folder
        scores = read_result_scores(found, true)
        labels = next(iter(scores.values())).labels if scores else ()
        events = read_result_events(found, true, scores, options.postprocessing(settings(found), labels, *given))
    judged = set(events if scores is None else scores)
    if split is not None:  # what is found of other splits is another matter
        judged &= set(true)
        events = {name: events[name] for name in events if name in true}
        scores = scores and {name: scores[name] for name in judged}
    if only_found:
        true = {name: true[name] for name in true if name in judged}
    _say_strangers(judged, true)
    if scores:
        _say_unasked(next(iter(scores.values())).labels, true)
    tables = detection_tables(events, true, scores)
    of = counted(len(true), "recording") + ("" if split is None else f" of split {split}")
    if as_json:
        print_json({"results": [table.to_dict() for table in tables], "recordings": len(true), "split": split})
        return
    zero = any(row.get(name, 1.0) < 0.0005 for table in tables for row in table.rows for name in SCENARIOS)
    notes = [ZERO_PSDS] if zero else []
    if markdown:
        echo("\n\n".join([*(table.to_markdown() for table in tables), *notes, f"{of}."]))
    else:
        for table in tables:
            out.print(table.to_rich())
        for line in (*notes, of):
            out.print(line, markup=False, highlight=False, soft_wrap=True)


def _recordings(found: Path) -> list[Path]:
    """The media in a folder that holds no results."""
    from peav.media.find import media_files

    results = (found / "detections.jsonl").is_file() or (found / "scores").is_dir()
    return [] if results or not found.is_dir() else media_files([found])


def settings(found: Path) -> Postprocessing:
    """Those of the run that wrote the results, where it tells."""
    from peav.events import Postprocessing
    from peav.events.thresholds import read_postprocessing

    told = [folder / POSTPROCESSING for folder in (found, found.parent) if (folder / POSTPROCESSING).is_file()]
    return read_postprocessing(told[0]) if told else Postprocessing()


def _listen(
    recordings: list[Path], true: dict[str, list[Event]], given: tuple[Any, ...], output: Path, detector: Detector
) -> None:
    """Detect what is true in those recordings that have a truth, with scores."""
    from peav.detector import detect_files
    from peav.events.names import aligned, recording_name

    named = aligned({recording_name(str(path)): path for path in recordings}, true)
    known = [named[name] for name in true if name in named]
    labels = sorted({event.label for events in true.values() for event in events})
    if not known or not labels:
        fail(f"{recordings[0].parent}: none of its recordings has a true event; names of files must agree")
    how = options.postprocessing(detector.postprocessing, labels, *given)
    detect_files(detector, known, labels, output, postprocessing=how, format=None, scores=True, show_progress=True)


def _say_unasked(asked: Sequence[str], true: dict[str, list[Event]]) -> None:
    """Say which true labels were not scored, so that no figure counts their events."""
    count = Counter(event.label for events in true.values() for event in events if event.label not in asked)
    if count:
        err.print(
            f"[yellow]note:[/] {counted(count.total(), 'true event')} of {counted(len(count), 'label')} that were "
            f"not asked for: left out ({escape(', '.join(sorted(count)))})",
            soft_wrap=True,
            highlight=False,
        )


def _say_strangers(names: set[str], true: dict[str, list[Event]]) -> None:
    """Say which recordings have no counterpart; none at all that has is an error."""
    if not names & set(true):
        if names and true:
            fail(f"no recording is on both sides: {min(names)} was judged, {min(true)} is true; names must agree")
        return
    if strangers := names - set(true):
        err.print(f"[yellow]note:[/] {counted(len(strangers), 'recording')} not among the true ones: counted as silent")
    if missing := set(true) - names:
        err.print(
            f"[yellow]note:[/] {counted(len(missing), 'true recording')} not judged: counted as missed; "
            "--only-found or --split leaves such out"
        )
