"""`peav describe`: what is heard and seen in files, in words, along the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from peav.cli import options
from peav.cli.console import (
    clock,
    escape,
    exit_if_all_failed,
    fail,
    out,
    print_csv,
    print_json,
    report_failures,
    shown,
)
from peav.utils.text import counted

if TYPE_CHECKING:
    from peav.captioner import WindowCaption
    from peav.describe import DescribeRun
    from peav.types import TimedCaption


def describe(
    files: options.Files,
    model: Annotated[str, typer.Option(help="A captioner: a directory that training wrote, or a hub name.")],
    prompt: Annotated[str, typer.Option(help="What is asked: caption, events, environment, or any words.")] = "caption",
    encoder: Annotated[
        str | None, typer.Option(help="Where its PE-AV model is, if not where it was in training.")
    ] = None,
    language_model: Annotated[
        str | None, typer.Option(help="Where its language model is: a directory, a .gguf file or a hub name.")
    ] = None,
    device: options.Device = None,
    revision: options.Revision = None,
    dtype: options.Dtype = None,
    cache_dir: options.CacheDir = None,
    window: options.Window = 10.0,
    batch_size: options.BatchSize = 8,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder for captions.jsonl, instead of stdout.")
    ] = None,
    vtt: Annotated[Path | None, typer.Option(help="A folder for captions as WebVTT, one for each file.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Describe at most so many files.")] = None,
    resume: options.Resume = True,
    retry_failed: options.RetryFailed = False,
    as_csv: options.Csv = False,
    as_json: options.Json = False,
) -> None:
    """Describe in words what is heard and seen in files, window by window, by a captioner (docs/captioning.md).

    Without -o results go to stdout when all files are done. With -o, the folder gets captions.jsonl (a line for each
    file), which the pages of `peav search` and `peav detect` show with --captions, and failures.jsonl; a run that was
    killed goes on from there, and another prompt, window or model starts anew.
    Exit code: 0, or 1 if every single file failed.
    """
    from peav.captioner import Captioner
    from peav.describe import describe_files

    if as_csv and output is not None:
        fail("--csv goes to stdout, and -o is a folder for captions.jsonl; give one")
    paths = options.media_in(files)
    if vtt is not None:
        vtt.mkdir(parents=True, exist_ok=True)  # what is in its way is said now
    captioner = Captioner.load(
        model,
        encoder=encoder,
        language_model=language_model,
        device=device,
        dtype=dtype,
        revision=revision,
        cache_dir=cache_dir,
    )
    run = describe_files(
        captioner,
        paths,
        output,
        prompt=prompt,
        window=window,
        batch_size=batch_size,
        limit=limit,
        resume=resume,
        retry_failed=retry_failed,
        show_progress=True,
    )
    results = [one.to_dict() for one in run.files]
    summary = run.summary() | {"model": captioner.name}
    if output is not None and as_json:
        print_json(summary | {"output": str(output)})
    elif output is not None:
        _report(summary, output)
    elif as_json:
        print_json(results)
    elif as_csv:
        lines = [one | window for one in results for window in one["windows"] or [{}]]
        print_csv(("path", "start", "end", "text", "error"), lines)
    else:
        out.print(_table(results))
    if vtt is not None:
        _write_vtt(run, paths, output, vtt)
    exit_if_all_failed(summary, summary["described"])


def _write_vtt(run: DescribeRun, paths: list[Path], output: Path | None, folder: Path) -> None:
    """A file for each recording, called as it is without its suffix, which players look for."""
    from peav.describe import read_captions
    from peav.events.formats import to_vtt
    from peav.events.names import unique_names
    from peav.types import Event
    from peav.utils.storage import write_all

    told: Mapping[str, Sequence[TimedCaption | WindowCaption]]
    if output is None:
        told = {str(one.path): [window for window in one.windows if window.text] for one in run.files if not one.error}
    else:  # with what an earlier run has written
        told = read_captions(output, (path.absolute() for path in paths))
    for path, name in unique_names([path.absolute() for path in paths]).items():
        if str(path) in told:
            cues = [Event(one.text, one.start, one.end) for one in told[str(path)]]
            write_all(folder / f"{name}.vtt", to_vtt(cues))


def _report(summary: dict[str, Any], output: Path) -> None:
    windows, files = counted(summary["windows"], "window"), counted(summary["described"], "file")
    out.print(f"{shown(output)}: [bold]{windows}[/] of {files}; {summary['skipped']} were there already")
    report_failures(summary, output / "failures.jsonl")


def _table(results: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="dim")
    for heading in ("file", "from", "to", "what"):
        table.add_column(heading, justify="right" if heading in ("from", "to") else "left", overflow="fold")
    for result in results:
        name = shown(result["path"])
        for window in result["windows"]:
            table.add_row(name, clock(window["start"]), clock(window["end"]), escape(window["text"]))
            name = ""
        if "error" in result:
            table.add_row(name, "", "", f"[red]{escape(result['error'])}[/]")
    return table
