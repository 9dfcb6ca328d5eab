"""`peav detect`: when sounds are heard in files."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from peav.cli import options
from peav.cli.console import (
    clock,
    echo,
    err,
    escape,
    exit_if_all_failed,
    fail,
    load_detector,
    meter,
    out,
    print_json,
    report_failures,
    say_written,
    shown,
)
from peav.utils.terminal import visible
from peav.utils.text import counted

if TYPE_CHECKING:
    from peav.detector import Detector
    from peav.events import Postprocessing
    from peav.events.outputs import FileEvents


def detect(
    files: Annotated[
        list[Path],
        typer.Argument(help="Files and folders; folders are searched for media. -: sound that comes in on stdin."),
    ],
    labels: options.Labels = None,
    labels_file: options.LabelsFile = None,
    prompt: options.Prompt = "{}",
    threshold: options.Threshold = None,
    median: options.Median = None,
    low: options.Low = None,
    min_gap: options.MinGap = None,
    min_length: options.MinLength = None,
    format: Annotated[
        str,
        typer.Option(help="How events are written: table, json, csv, tsv, audacity, vtt, or path/to/file.py:Class."),
    ] = "table",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder for results, instead of stdout.")
    ] = None,
    scores: Annotated[
        bool, typer.Option("--scores", help="With -o: also every frame's scores, in the folder's scores/.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw a timeline, a PNG; of several files, each its own.")] = None,
    html: Annotated[Path | None, typer.Option(help="A timeline with a player, one HTML file; likewise.")] = None,
    captions: options.Captions = None,
    model: options.FrameModel = "frame-tiny",
    device: options.Device = None,
    revision: options.Revision = None,
    dtype: options.Dtype = None,
    cache_dir: options.CacheDir = None,
    sampling_rate: Annotated[
        int | None,
        typer.Option(min=1, help="With -: stdin holds bare samples at this rate in Hz, 16 bit little-endian, mono."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Listen to at most so many files.")] = None,
    resume: options.Resume = True,
    retry_failed: options.RetryFailed = False,
    as_csv: options.Csv = False,
    as_json: options.Json = False,
) -> None:
    """Find when sounds that labels describe are heard: events with onset, offset and score, in files of any length.

    Without -o results go to stdout when all files are done. With -o, the folder gets detections.jsonl (a line for each
    file), a file for each input in the given --format, and failures.jsonl; a run that was killed goes on from there.
    The file - is sound that comes in on stdin, in any format that can be read as it comes, or bare samples with
    --sampling-rate: each event is a line, or with --json a JSON object on a line, once it is settled.
    `peav detect eval` measures such results, `peav detect calibrate` fits a threshold for each label.
    Exit code: 0, or 1 if every single file failed.
    """
    from peav.detector import detect_files

    began = time.monotonic()
    format = "csv" if as_csv else "json" if as_json and output is None else format
    texts = options.label_texts(labels, labels_file, prompt)
    live = Path("-") in files
    if live:
        lines = _check_live(
            format, len(files), given=bool(output or scores or plot or html or captions or limit or retry_failed)
        )
    elif sampling_rate is not None:
        fail("--sampling-rate is of bare samples on stdin; files tell theirs: peav detect - --sampling-rate 16000")
    paths = [] if live else options.media_in(files)
    _check_outputs(format, output, scores, len(paths))
    options.check_captions(captions, html)
    read = options.captions_of(captions, (path.absolute() for path in paths))
    detector = load_detector(model, device, revision, dtype, cache_dir)
    how = options.postprocessing(detector.postprocessing, texts, threshold, low, median, min_gap, min_length)
    if live:
        _listen(detector, texts, how, sampling_rate, as_json=lines)
        return
    run = detect_files(
        detector,
        paths,
        texts,
        output,
        postprocessing=how,
        format=None if format == "table" else format,
        scores=scores,
        plot=plot,
        html=html,
        captions=read,
        limit=limit,
        resume=resume,
        retry_failed=retry_failed,
        show_progress=True,
    )
    say_written(*(timeline for file in run.files for timeline in file.timelines))
    summary = run.summary() | {"model": detector.name, "seconds": round(time.monotonic() - began, 2)}
    if output is None:
        _print(run.files, format)
    elif as_json:
        print_json(summary | {"output": str(output)})
    else:
        _report(summary, output)
    exit_if_all_failed(summary, summary["detected"])


def _check_live(format: str, files: int, *, given: bool) -> bool:
    """Whether events are to be printed as JSON."""
    if files > 1 or given or format not in ("table", "json"):
        fail("with - events of one stream go to stdout, as lines or --json; leave the other files and options out")
    if sys.stdin.isatty():
        fail("- is sound on stdin, which is a terminal here: arecord -f S16_LE -r 16000 | peav detect - ...")
    return format == "json"


def _listen(
    detector: Detector, texts: dict[str, str], how: Postprocessing, sampling_rate: int | None, *, as_json: bool
) -> None:
    """Print the events of what comes in on stdin."""
    from peav.events.formats import to_record
    from peav.media.live import iter_pipe, iter_samples
    from peav.utils.jsonl import to_line

    pipe = sys.stdin.fileno()
    blocks = iter_pipe(pipe, detector.sampling_rate) if sampling_rate is None else iter_samples(pipe)
    heard = 0
    for event in detector.listen(blocks, texts, sampling_rate=sampling_rate, postprocessing=how):
        heard += 1
        line = f"{clock(event.onset)}  {clock(event.offset)}  {event.score:.2f}  {event.label}\n"
        echo(to_line(to_record(event)).decode() if as_json else line, newline=False)
    err.print(f"[dim]the sound has ended: {counted(heard, 'event')}[/]")


def _check_outputs(format: str, output: Path | None, scores: bool, files: int) -> None:
    from peav.events.writers import event_format

    if output is None and scores:
        fail("--scores needs a folder to write to; give -o FOLDER")
    if format != "table" and output is None and files > 1 and not event_format(format).holds_many:
        fail(f"--format {format} holds one file, and there are {files}; give -o FOLDER")


def _print(files: list[FileEvents], format: str) -> None:
    from peav.events.names import short_names
    from peav.events.writers import event_format

    done = [file for file in files if file.error is None]
    if format == "table":
        out.print(_table(files))
        return
    if format == "json":
        print_json([file.to_dict() for file in files])
        return
    for file in files:
        if file.error is not None:
            err.print(f"[red]failed:[/] {escape(str(file.error))}", soft_wrap=True, highlight=False)
    writer = event_format(format)
    if done or writer.holds_many:
        names = short_names([str(file.path) for file in done])
        echo(writer.text({visible(names[str(file.path)]): file for file in done}), newline=False)


def _table(files: list[FileEvents]) -> Table:
    table = Table(box=None, header_style="dim")
    for heading, side in (("file", "left"), ("from", "right"), ("to", "right"), ("label", "left"), ("score", "right")):
        table.add_column(heading, justify=side, overflow="fold")  # type: ignore[arg-type]
    table.add_column("")
    for file in files:
        name = shown(file.path)
        if file.error is not None:
            table.add_row(name, "", "", f"[red]{escape(str(file.error))}[/]")
        elif not file.events:
            table.add_row(name, "", "", "[dim]none of these was heard[/]")
        for place, event in enumerate(file.events):
            times = clock(event.onset), clock(event.offset)
            row = (name if place == 0 else "", *times, escape(event.label), f"{event.score:.2f}", meter(event.score))
            table.add_row(*row)
    return table


def _report(summary: dict[str, Any], output: Path) -> None:
    out.print(
        f"{shown(output)}: [bold]{counted(summary['events'], 'event')}[/] in {counted(summary['detected'], 'file')} "
        f"({summary['hours'] * 60:.1f} min) "
        f"in {summary['seconds']:.1f} s; {summary['skipped']} were there already"
    )
    report_failures(summary, output / "failures.jsonl")
