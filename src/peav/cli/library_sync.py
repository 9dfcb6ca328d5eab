"""`peav library sync`: let a library follow its files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peav.cli import options
from peav.cli.console import out, print_json, shown


def library_sync(
    library: options.Library,
    folders: Annotated[list[Path] | None, typer.Argument(help="Where files that moved may be now.")] = None,
    as_json: options.Json = False,
) -> None:
    """Let a library follow its files: what moved is known by its new path, what has gone leaves.

    A file that moved is one of the same size and modification time, in one of the folders. Nothing is embedded anew;
    `peav embed` adds what is new or has changed.
    """
    from peav.search.manage import sync_files

    counts = sync_files(library, folders or ())
    if as_json:
        print_json(counts)
    else:
        out.print(
            f"{shown(library)}: {counts['moved']} files moved, {counts['removed']} have gone and left, "
            f"{counts['kept']} are where they were"
        )
