"""`peav convert`: a checkpoint from one layout to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from peav.cli.console import Json, err, out, print_json, shown


def convert(
    source: Annotated[str, typer.Argument(help="A hub name or a directory, in any of the three layouts.")],
    destination: Annotated[Path, typer.Argument(help="The directory to write.")],
    to: Annotated[Literal["peav", "perception_models", "transformers"], typer.Option(help="The layout to write.")],
    as_json: Json = False,
) -> None:
    """Convert a checkpoint between the three layouts, without loss."""
    from peav.checkpoint import convert as convert_checkpoint

    with err.status(f"converting {source}"):
        convert_checkpoint(source, destination, to)
    files = {file.name: file.stat().st_size for file in sorted(destination.iterdir())}
    if as_json:
        print_json({"source": source, "destination": str(destination), "layout": to, "files": files})
        return
    for name, size in files.items():
        out.print(f"{shown(destination / name)}  [dim]{size / 2**20:.1f} MiB[/]")
