"""`peav caption report`: a page to look at of what a captioning run has made, and what it took."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peav.cli import options
from peav.cli.console import out, print_json, shown
from peav.utils.text import counted


def caption_report(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a `peav caption` run.")],
    target: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="HTML", help="The page; OUT/report.html by default.")
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Clips of the run as a whole that the page shows.")] = 12,
    as_json: options.Json = False,
) -> None:
    """Write a page with a sample of the clips, the worst by every check, histograms, counts, costs and failures.

    It is one file with everything in it. The clips' files need not be there: without them there are no players.
    """
    from peav.engine.report import read_report
    from peav.engine.report_page import page
    from peav.utils.storage import write_all

    target = target or folder / "report.html"
    report = read_report(folder, clips)
    write_all(target, page(report))
    if as_json:
        print_json({"page": str(target), **report.as_json()})
    else:
        out.print(f"{counted(report.done, 'clip')} captioned, {shown(target)}")
