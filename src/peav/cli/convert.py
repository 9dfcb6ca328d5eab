"""`peav convert`: a checkpoint from one layout to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from peav.cli import options
from peav.cli.console import err, out, print_json, shown


def convert(
    source: Annotated[str, typer.Argument(help="A hub name or a directory, in any of the three layouts.")],
    destination: Annotated[Path, typer.Argument(help="The directory to write.")],
    to: Annotated[Literal["peav", "perception_models", "transformers"], typer.Option(help="The layout to write.")],
    revision: options.Revision = None,
    dtype: options.Dtype = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
) -> None:
    """Convert a checkpoint between the three layouts, without loss; with --dtype the weights are rounded to it."""
    from peav.checkpoint import convert as convert_checkpoint

    with err.status(f"converting {source}"):
        convert_checkpoint(source, destination, to, revision=revision, dtype=dtype, cache_dir=cache_dir)
    files = {file.name: file.stat().st_size for file in sorted(destination.iterdir())}
    if as_json:
        print_json({"source": source, "destination": str(destination), "layout": to, "files": files})
        return
    for name, size in files.items():
        out.print(f"{shown(destination / name)}  [dim]{size / 2**20:.1f} MiB[/]")
