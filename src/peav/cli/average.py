"""`peav average`: one checkpoint out of several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peav.cli.console import err, out, shown


def average(
    models: Annotated[list[str], typer.Argument(help="Hub names or directories: runs on from one checkpoint.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The directory to write.")],
) -> None:
    """Average the weights of several checkpoints of one model, those of several seeds for example."""
    from peav.checkpoint import average as average_checkpoints

    with err.status(f"averaging {len(models)} checkpoints"):
        average_checkpoints(models, output)
    out.print(shown(output))
