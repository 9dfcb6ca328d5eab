"""`peav average`: one checkpoint out of several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peav.cli import options
from peav.cli.console import err, out, print_json, shown


def average(
    models: Annotated[list[str], typer.Argument(help="Hub names or directories: runs on from one checkpoint.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The directory to write.")],
    revision: options.Revision = None,
    dtype: options.Dtype = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
) -> None:
    """Average the weights of several checkpoints of one model, those of several seeds for example.

    --revision is of all of them; MODEL@REVISION gives each its own. --dtype is of the weights that are written.
    """
    from peav.checkpoint import average as average_checkpoints

    with err.status(f"averaging {len(models)} checkpoints"):
        average_checkpoints(models, output, revision=revision, dtype=dtype, cache_dir=cache_dir)
    if as_json:
        print_json({"models": models, "output": str(output)})
    else:
        out.print(shown(output))
