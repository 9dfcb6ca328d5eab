"""`peav embed`: files and folders into a library."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from peav.cli import options
from peav.cli.console import exit_if_all_failed, load, out, print_json, report_failures, shown
from peav.utils.text import counted


def embed(
    paths: options.Files,
    output: Annotated[Path, typer.Option("--output", "-o", help="The library, a Parquet file.")],
    model: options.Model = "tiny",
    device: options.Device = None,
    revision: options.Revision = None,
    dtype: options.Dtype = None,
    cache_dir: options.CacheDir = None,
    window: Annotated[
        float | None,
        typer.Option(min=1.0, help="Long files are cut into windows of so many seconds; 5 in a new library."),
    ] = None,
    batch_size: options.BatchSize = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="Embed at most so many files.")] = None,
    resume: options.Resume = True,
    retry_failed: options.RetryFailed = False,
    as_json: options.Json = False,
) -> None:
    """Embed files and folders into a library: a row for every window of every file.

    A window with sound and pictures gets all three embeddings (audio, video, audio_video), so that any query works.
    Bad files, also those that crash their decoder, are listed in failures.jsonl beside the library and the run goes on.
    A run that was stopped or killed goes on where it was, also within a file, when the same command runs again; files
    that failed are tried again when they have changed, or with --retry-failed. A library has one model and one length
    of windows, and one process at a time adds to it.
    Exit code: 0, or 1 if every single file failed.
    """
    from peav.search.embed import embed_files

    began = time.monotonic()
    files = options.media_in(paths)
    encoder = load(model, device, revision, dtype, cache_dir)
    summary = embed_files(
        encoder,
        files,
        output,
        window=window,
        batch_size=batch_size,
        limit=limit,
        resume=resume,
        retry_failed=retry_failed,
        show_progress=True,
    )
    summary |= {"library": str(output), "model": encoder.name}
    summary["seconds"] = round(time.monotonic() - began, 2)
    if as_json:
        print_json(summary)
    else:
        _report(summary, output)
    exit_if_all_failed(summary, summary["embedded"])


def _report(summary: dict[str, Any], output: Path) -> None:
    minutes = summary["hours"] * 60
    out.print(
        f"[bold]{counted(summary['embedded'], 'file')}[/] embedded ({counted(summary['windows'], 'window')}, "
        f"{minutes:.1f} min of media) "
        f"in {summary['seconds']:.1f} s; {summary['skipped']} were there already"
    )
    report_failures(summary, output.with_name("failures.jsonl"))
    out.print(f"{shown(output)}: {counted(summary['library_rows'], 'row')} by {summary['model']}")
