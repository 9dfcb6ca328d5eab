"""`peav embed`: files and folders into a library."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from peav.cli.console import (
    BatchSize,
    CacheDir,
    Device,
    Dtype,
    Json,
    Model,
    Revision,
    Window,
    fail,
    load,
    one_line_warnings,
    out,
    print_json,
    shown,
)


def embed(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders; folders are searched for media.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The library, a Parquet file.")],
    model: Model = "tiny",
    device: Device = None,
    revision: Revision = None,
    dtype: Dtype = None,
    cache_dir: CacheDir = None,
    window: Window = 30.0,
    batch_size: BatchSize = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="Embed at most so many files.")] = None,
    resume: Annotated[
        bool, typer.Option(help="Skip files that were embedded or failed before, unchanged; else start anew.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Embed files and folders into a library: a row for every window of every file.

    A window with sound and pictures gets all three embeddings (audio, video, audio_video), so that any query works.
    Bad files, also those that crash their decoder, are listed in failures.jsonl beside the library and the run goes on.
    A run that was stopped or killed goes on where it was, also within a file, when the same command runs again; files
    that failed are tried again when they have changed, or with --no-resume. A library has one model and one length of
    windows, and one process at a time adds to it.
    Exit code: 0, or 1 if every single file failed.
    """
    from peav.search.embed import embed_files, files_of

    began = time.monotonic()
    if not files_of(paths):
        fail(f"no media files in {', '.join(map(str, paths))}")
    encoder = load(model, device, revision, dtype, cache_dir)
    with one_line_warnings():
        summary = embed_files(
            encoder,
            paths,
            output,
            window=window,
            batch_size=batch_size,
            limit=limit,
            resume=resume,
            show_progress=True,
        )
    summary |= {"library": str(output), "model": encoder.name}
    summary["seconds"] = round(time.monotonic() - began, 2)
    if as_json:
        print_json(summary)
    else:
        _report(summary, output)
    if (summary["failed"] or summary["failed_before"]) and not summary["embedded"] and not summary["skipped"]:
        raise typer.Exit(1)


def _report(summary: dict[str, Any], output: Path) -> None:
    minutes = summary["hours"] * 60
    listed = shown(output.with_name("failures.jsonl"))
    out.print(
        f"[bold]{summary['embedded']}[/] files embedded ({summary['windows']} windows, {minutes:.1f} min of media) "
        f"in {summary['seconds']:.1f} s; {summary['skipped']} were there already"
    )
    if summary["failed"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in summary["failures"].items())
        out.print(f"[yellow]{summary['failed']} failed[/] ({kinds}): see {listed}")
    if summary["failed_before"]:
        out.print(
            f"[yellow]{summary['failed_before']} failed before[/] and have not changed: see {listed}; "
            "take their lines out to try them again"
        )
    out.print(f"{shown(output)}: {summary['library_rows']} rows by {summary['model']}")
