"""`peav detect`: when sounds are heard in files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from peav.cli.console import (
    CacheDir,
    Device,
    Dtype,
    Json,
    Revision,
    clock,
    echo,
    err,
    escape,
    fail,
    meter,
    one_line_warnings,
    out,
    print_json,
    shown,
)
from peav.utils.labels import readable
from peav.utils.terminal import visible
from peav.utils.text import lines, read_text

if TYPE_CHECKING:
    from peav.cli.detect_files import Outcome, Run
    from peav.detector import Detector
    from peav.events import Postprocessing

Format = Literal["table", "json", "tsv", "audacity", "vtt"]
FrameModel = Annotated[
    str, typer.Option(help="frame-tiny, a hub name such as facebook/pe-a-frame-large, or a directory.")
]
Labels = Annotated[str | None, typer.Option(help="What to listen for, with commas between: dog,siren")]
LabelsFile = Annotated[
    Path | None, typer.Option(help="The same, one a line; after a tab, the words that the model reads for it.")
]
Prompt = Annotated[str, typer.Option(help="How a label becomes words; {} stands for the label.")]
Threshold = Annotated[
    str, typer.Option(help="A probability, or a file of one per label that `peav detect calibrate` wrote.")
]
Median = Annotated[float, typer.Option(min=0.0, help="Median-filter the scores over so many seconds.")]
Low = Annotated[
    float, typer.Option(min=0.01, max=1.0, help="Hysteresis: an event lasts while above this share of its threshold.")
]
MinGap = Annotated[float, typer.Option(min=0.0, help="Join events with a shorter pause, in seconds.")]
MinLength = Annotated[float, typer.Option(min=0.0, help="Drop shorter events, in seconds.")]


def detect(
    files: Annotated[list[Path], typer.Argument(help="Files and folders; folders are searched for media.")],
    labels: Labels = None,
    labels_file: LabelsFile = None,
    prompt: Prompt = "{}",
    threshold: Threshold = "0.3",
    median: Median = 0.0,
    low: Low = 1.0,
    min_gap: MinGap = 0.0,
    min_length: MinLength = 0.0,
    format: Annotated[Format, typer.Option(help="How events are written.")] = "table",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder for results, instead of stdout.")
    ] = None,
    scores: Annotated[
        bool, typer.Option("--scores", help="With -o: also every frame's scores, in the folder's scores/.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw a timeline, a PNG; of several files, each its own.")] = None,
    html: Annotated[Path | None, typer.Option(help="A timeline with a player, one HTML file; likewise.")] = None,
    model: FrameModel = "frame-tiny",
    device: Device = None,
    revision: Revision = None,
    dtype: Dtype = None,
    cache_dir: CacheDir = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Listen to at most so many files.")] = None,
    resume: Annotated[
        bool, typer.Option(help="With -o: skip files that were done or failed before, unchanged; else start anew.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Find when sounds that labels describe are heard: events with onset, offset and score, in files of any length.

    Without -o results go to stdout when all files are done. With -o, the folder gets detections.jsonl (a line for each
    file), a file for each input in the given --format, and failures.jsonl; a run that was killed goes on from there.
    `peav detect eval` measures such results, `peav detect calibrate` fits a threshold for each label.
    Exit code: 0, or 1 if every single file failed.
    """
    from peav.cli.detect_files import Outputs, detect_files
    from peav.media import find_media

    began = time.monotonic()
    format = "json" if as_json and output is None else format
    texts = label_texts(labels, labels_file, prompt)
    how = postprocessing(threshold, low, median, min_gap, min_length)
    present = [path for path in files if path.exists()]
    absent = [path for path in files if path not in present]
    paths = list(dict.fromkeys(path.absolute() for path in [*find_media(present or files), *absent]))
    if not paths:
        fail(f"no media files in {', '.join(map(str, files))}")
    _check_outputs(format, output, scores, len(paths))
    detector = load_detector(model, device, revision, dtype, cache_dir)
    with one_line_warnings():
        outputs = Outputs(paths, format, output, scores, plot, html)
        run = detect_files(detector, paths, texts, how, outputs, limit, resume)
    summary = _summary(run, time.monotonic() - began, detector.name)
    if output is None:
        _print(run.outcomes, format)
    elif as_json:
        print_json(summary | {"output": str(output)})
    else:
        _report(summary, output)
    if (summary["failed"] or summary["failed_before"]) and not summary["detected"] and not summary["skipped"]:
        raise typer.Exit(1)


def label_texts(labels: str | None, file: Path | None, prompt: str) -> dict[str, str]:
    """Each label and the words that the model reads for it; a label given twice counts once."""
    if (labels is None) == (file is None):
        fail("give the labels as --labels dog,siren or --labels-file FILE")
    if "{}" not in prompt:
        fail(f"--prompt {prompt!r} has no {{}} for the label to stand in")
    text = labels.replace(",", "\n") if labels is not None else read_text(file) if file else ""
    texts = {}
    for _, line in lines(text):
        label, _, words = (part.strip() for part in line.strip().partition("\t"))
        texts[label] = words or prompt.replace("{}", readable(label))
    if not texts:
        fail("no labels given")
    return texts


def postprocessing(threshold: str, low: float, median: float, min_gap: float, min_length: float) -> Postprocessing:
    """The options as one setting; a threshold that is no number is a file of them."""
    from peav.events import Postprocessing
    from peav.events.thresholds import read_thresholds

    try:
        value: Any = float(threshold)
    except ValueError:
        value = read_thresholds(Path(threshold))
    return Postprocessing(value, low, median, min_gap, min_length)


def load_detector(
    model: str, device: str | None, revision: str | None, dtype: str | None, cache_dir: Path | None
) -> Detector:
    """Load the model with a sign of life, since a large one takes a while."""
    from peav.detector import Detector

    with err.status(f"loading {escape(model)}"):
        return Detector.load(model, device=device, revision=revision, dtype=dtype, cache_dir=cache_dir)


def _check_outputs(format: Format, output: Path | None, scores: bool, files: int) -> None:
    if output is None and scores:
        fail("--scores needs a folder to write to; give -o FOLDER")
    if output is None and files > 1 and format in ("audacity", "vtt"):
        fail(f"--format {format} holds one file, and there are {files}; give -o FOLDER")


def _summary(run: Run, seconds: float, model: str) -> dict[str, Any]:
    done = [outcome for outcome in run.outcomes if outcome.error is None]
    return {
        "detected": len(done),
        "events": sum(len(outcome.events) for outcome in done),
        "hours": round(sum(outcome.duration for outcome in done) / 3600, 4),
        "failed": len(run.outcomes) - len(done),
        "skipped": run.skipped,
        "failed_before": run.failed_before,
        "model": model,
        "seconds": round(seconds, 2),
    }


def _print(outcomes: list[Outcome], format: Format) -> None:
    from peav.events.formats import to_audacity, to_tsv, to_vtt
    from peav.events.names import short_names

    done = [outcome for outcome in outcomes if outcome.error is None]
    if format == "table":
        out.print(_table(outcomes))
        return
    if format == "json":
        print_json([outcome.record() for outcome in outcomes])
        return
    for outcome in outcomes:
        if outcome.error is not None:
            err.print(f"[red]failed:[/] {escape(str(outcome.error))}", soft_wrap=True, highlight=False)
    if format == "tsv":
        names = short_names([str(outcome.path) for outcome in done])
        events = {visible(names[str(outcome.path)]): outcome.events for outcome in done}
        echo(to_tsv(events), newline=False)
    elif done:
        echo((to_audacity if format == "audacity" else to_vtt)(done[0].events), newline=False)


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(box=None, header_style="dim")
    for heading, side in (("file", "left"), ("from", "right"), ("to", "right"), ("label", "left"), ("score", "right")):
        table.add_column(heading, justify=side, overflow="fold")  # type: ignore[arg-type]
    table.add_column("")
    for outcome in outcomes:
        name = shown(outcome.path)
        if outcome.error is not None:
            table.add_row(name, "", "", f"[red]{escape(str(outcome.error))}[/]")
        elif not outcome.events:
            table.add_row(name, "", "", "[dim]none of these was heard[/]")
        for place, event in enumerate(outcome.events):
            times = clock(event.onset), clock(event.offset)
            row = (name if place == 0 else "", *times, escape(event.label), f"{event.score:.2f}", meter(event.score))
            table.add_row(*row)
    return table


def _report(summary: dict[str, Any], output: Path) -> None:
    out.print(
        f"[bold]{summary['events']}[/] events in {summary['detected']} files ({summary['hours'] * 60:.1f} min) "
        f"in {summary['seconds']:.1f} s; {summary['skipped']} files were there already: {shown(output)}"
    )
    if summary["failed_before"]:
        out.print(f"[yellow]{summary['failed_before']} failed before[/] and did not change: --no-resume tries again")
    if summary["failed"]:
        out.print(f"[yellow]{summary['failed']} failed[/]: see {shown(output / 'failures.jsonl')}")
