"""`peav library info`, `list`, `remove` and `sync`: what a library holds, and how it follows its files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from peav.cli import options
from peav.cli.console import clock, escape, out, print_csv, print_json, shown
from peav.utils.text import counted

Failed = Annotated[bool, typer.Option("--failed", help="Those that could not be embedded, and why.")]
Gone = Annotated[bool, typer.Option("--gone", help="Only those that are no longer where they were.")]


def library_info(library: options.Library, as_json: options.Json = False) -> None:
    """Say what a library holds: its model, its windows, and which of its files are there, changed, gone or failed."""
    from peav.search import manage

    facts = manage.library_info(library)
    if as_json:
        print_json(facts)
        return
    state, window = facts["state"], facts["window"]
    out.print(f"[bold]{shown(library)}[/]: {facts['bytes'] / 2**20:.1f} MiB, made by {escape(facts['model'])}")
    cut = "" if window is None else f" of {window:g} s"
    out.print(
        f"{counted(facts['files'], 'file')} ({facts['hours']:.2f} h) in {counted(facts['windows'], 'window')}{cut}"
    )
    out.print(f"{state['there']} there, {state['changed']} changed, {state['gone']} gone; {facts['failed']} failed")
    if state["gone"]:
        out.print("[dim]`peav library sync` takes out what has gone; give it folders to find what has moved[/]")


def library_list(
    library: options.Library,
    gone: Gone = False,
    failed: Failed = False,
    as_csv: options.Csv = False,
    as_json: options.Json = False,
) -> None:
    """List the files of a library with their windows and whether they are there, changed or gone."""
    from peav.search import manage

    if failed:
        names: tuple[str, ...] = ("path", "error", "reason")
        rows = [{name: line.get(name, "") for name in names} for line in manage.library_failures(library)]
    else:
        names = ("path", "modality", "duration", "windows", "state")
        rows = manage.to_dicts(file for file in manage.library_files(library) if not gone or file.state == "gone")
    if as_json:
        print_json(rows)
    elif as_csv:
        print_csv(names, rows)
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


def library_remove(
    library: options.Library,
    paths: Annotated[list[Path], typer.Argument(help="Files, and folders with all that is below them.")],
    as_json: options.Json = False,
) -> None:
    """Take files out of a library. The files themselves stay."""
    from peav.search import manage

    removed = manage.remove_files(library, paths)
    if as_json:
        print_json({"removed": removed})
    else:
        out.print(f"{counted(removed, 'file')} taken out of {shown(library)}")


def library_sync(
    library: options.Library,
    folders: Annotated[list[Path] | None, typer.Argument(help="Where files that moved may be now.")] = None,
    as_json: options.Json = False,
) -> None:
    """Let a library follow its files: what moved is known by its new path, what has gone leaves.

    A file that moved is one of the same size and modification time, in one of the folders. Nothing is embedded anew;
    `peav embed` adds what is new or has changed.
    """
    from peav.search import manage

    counts = manage.sync_files(library, folders or ())
    if as_json:
        print_json(counts)
    else:
        out.print(
            f"{shown(library)}: {counted(counts['moved'], 'file')} moved, {counts['removed']} have gone and left, "
            f"{counts['kept']} are where they were"
        )
