"""`peav prepare`: features of a manifest's clips in shards, for training to read."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from peav.cli import options
from peav.cli.console import load, out, print_json, shown
from peav.utils.progress import counting
from peav.utils.text import counted


def prepare(
    manifest: Annotated[
        str,
        typer.Argument(
            help="A .jsonl, .csv or .parquet manifest, a folder of recordings, or tars: 'clips-*.tar', clips-{0..9}.tar"
        ),
    ],
    folder: Annotated[
        str, typer.Option("--out", "-o", metavar="CACHE", help="Folder, or s3:// or gs:// address, of the shards.")
    ],
    model: Annotated[str, typer.Option(help="Its codec and frame encoder: tiny, a directory or a hub name.")] = "tiny",
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Longer clips keep their first seconds.")] = 10.0,
    jobs: Annotated[int, typer.Option(min=1, help="Clips at a time.")] = 2,
    revision: options.Revision = None,
    dtype: Annotated[
        Literal["float32"], typer.Option(help="float32 alone: training compares the features' weights with its own.")
    ] = "float32",
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
) -> None:
    """Store codec latents and frame features of all clips in shards; run again, it goes on where it was stopped.

    Train on them with `sources: [{place: CACHE}]`.
    """
    from peav.data.places import read_clips
    from peav.features.prepare import prepare as run

    path = Path(manifest)
    rows = read_clips(manifest)
    encoder = load(model, "cpu", revision, dtype, cache_dir)
    with counting("computing features", len(rows)) as show:
        result = run(
            rows,
            folder,
            encoder.model,
            name=encoder.name,
            root=path if path.is_dir() else path.parent,
            max_seconds=max_seconds,
            jobs=jobs,
            progress=show,
        )
    if as_json:
        print_json({"folder": folder, **asdict(result)})
        return
    out.print(f"{counted(result.clips, 'clip')} prepared, {result.computed} of them now: {shown(folder)}")
    if result.failed:
        out.print(f"{result.failed} cannot be read, see {shown(folder)}/failures.jsonl")
