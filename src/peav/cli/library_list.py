"""`peav library list`: the files of a library."""

from __future__ import annotations

import csv
import io
from typing import Annotated, Any

import typer
from rich.table import Table

from peav.cli import options
from peav.cli.console import clock, echo, escape, out, print_json, shown

Failed = Annotated[bool, typer.Option("--failed", help="Those that could not be embedded, and why.")]
Gone = Annotated[bool, typer.Option("--gone", help="Only those that are no longer where they were.")]


def library_list(
    library: options.Library,
    gone: Gone = False,
    failed: Failed = False,
    as_csv: options.Csv = False,
    as_json: options.Json = False,
) -> None:
    """List the files of a library with their windows and whether they are there, changed or gone."""
    from peav.search.manage import library_failures, library_files, to_dicts

    if failed:
        names: tuple[str, ...] = ("path", "error", "reason")
        rows = [{name: line.get(name, "") for name in names} for line in library_failures(library)]
    else:
        names = ("path", "modality", "duration", "windows", "state")
        rows = to_dicts(file for file in library_files(library) if not gone or file.state == "gone")
    if as_json:
        print_json(rows)
    elif as_csv:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        echo(buffer.getvalue(), newline=False)
    else:
        out.print(_table(rows, names))


def _table(rows: list[dict[str, Any]], names: tuple[str, ...]) -> Table:
    table = Table(box=None, header_style="dim")
    for name in names:
        table.add_column(name, justify="right" if name in ("duration", "windows") else "left", overflow="fold")
    for row in rows:
        texts = row | {"path": shown(row["path"])}
        if "duration" in row:
            texts |= {"duration": clock(row["duration"]), "modality": row["modality"].replace("_", "+")}
        table.add_row(*(texts[name] if name == "path" else escape(str(texts[name])) for name in names))
    return table
