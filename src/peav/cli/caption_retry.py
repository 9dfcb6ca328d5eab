"""`peav caption retry`: once more what failed in a captioning run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peav.cli import options
from peav.cli.caption import report, run
from peav.cli.console import out
from peav.utils.text import counted


def caption_retry(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a `peav caption` run.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores by default.")] = None,
    as_json: options.Json = False,
) -> None:
    """Ask again about the clips that failed, with the recipe that the run was begun with."""
    from peav.engine.run import held, retry

    places, recipe, limit = held(folder)
    count = retry(folder)
    if not as_json:
        out.print(f"{counted(count, 'clip')} that failed: asking again")
    report(run(places, folder, recipe, limit, workers), folder, as_json)
