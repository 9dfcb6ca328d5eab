"""`peav average`: one checkpoint out of several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peav.cli.console import Json, err, out, print_json, shown


def average(
    models: Annotated[list[str], typer.Argument(help="Hub names or directories: runs on from one checkpoint.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The directory to write.")],
    as_json: Json = False,
) -> None:
    """Average the weights of several checkpoints of one model, those of several seeds for example."""
    from peav.checkpoint import average as average_checkpoints

    with err.status(f"averaging {len(models)} checkpoints"):
        average_checkpoints(models, output)
    if as_json:
        print_json({"models": models, "output": str(output)})
    else:
        out.print(shown(output))
