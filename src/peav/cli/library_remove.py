"""`peav library remove`: take files out of a library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peav.cli import options
from peav.cli.console import out, print_json, shown


def library_remove(
    library: options.Library,
    paths: Annotated[list[Path], typer.Argument(help="Files, and folders with all that is below them.")],
    as_json: options.Json = False,
) -> None:
    """Take files out of a library. The files themselves stay."""
    from peav.search.manage import remove_files

    removed = remove_files(library, paths)
    if as_json:
        print_json({"removed": removed})
    else:
        out.print(f"{removed} files taken out of {shown(library)}")
