"""`peav demo`: clips, searches and a page to look at."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from peav.cli import options
from peav.cli.console import err, escape, load, out, print_json, shown

if TYPE_CHECKING:
    from peav.cli.demo_searches import Item, Search
    from peav.data.manifest import Row

MOST_OWN = 24


def demo(
    folder: Annotated[Path, typer.Option("--out", help="Where the clips and the page go.")] = Path("peav-demo"),
    media: Annotated[Path | None, typer.Option(help="Your own files, to search among the clips.")] = None,
    clips: Annotated[int, typer.Option(min=6, help="How many clips to make.")] = 36,
    seed: Annotated[int, typer.Option(help="Other seeds make other clips.")] = 1,
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    model: options.Model = "tiny",
    device: options.Device = None,
    revision: options.Revision = None,
    dtype: options.Dtype = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
) -> None:
    """Make clips, search them every way (words, sound, pictures, speech) and write a page to look at."""
    from peav.cli.demo_page import Facts, build
    from peav.cli.demo_searches import embed, items_of, run_searches

    encoder = load(model, device, revision, dtype, cache_dir)
    items = items_of(_clips(folder, clips, seed)) + _own(media)
    began = time.monotonic()
    failures = embed(encoder, items)
    for failure in failures:
        err.print(f"[yellow]left out:[/] {escape(str(failure.error))}", soft_wrap=True, highlight=False)
    searches = run_searches(encoder, items)
    own = sum(item.own for item in items)
    parameters = sum(weight.numel() for weight in encoder.model.parameters())
    facts = Facts(encoder.name, parameters, time.monotonic() - began, len(items) - own, own)
    with err.status("writing the page"):
        page = _write(folder / "index.html", build(items, searches, facts))
    if as_json:
        results = [search.to_dict(items) for search in searches]
        print_json({"page": str(page), "model": encoder.name, "clips": facts.clips, "own": own, "searches": results})
        return
    out.print(_summary(searches))
    size = f"[dim]{page.stat().st_size / 2**20:.1f} MiB, with what was asked and found (as --json has it)[/]"
    out.print(f"\n[bold]{shown(page)}[/]  {size}", soft_wrap=True, highlight=False)
    if show:
        _open(page)


def _clips(folder: Path, clips: int, seed: int) -> list[Row]:
    from peav.data.manifest import read_manifest
    from peav.synth.world import Mix, can_speak, generate
    from peav.utils.progress import counting

    world, mix = folder / f"world-{seed}", Mix()
    if not can_speak():
        err.print(
            "[yellow]note:[/] nobody speaks in the clips; for speech: pip install 'peav\\[world]'", highlight=False
        )
        world, mix = folder / f"world-{seed}-without-speech", Mix(speech=0.0)
    with counting("making clips", clips) as show:
        generate(world, clips, seed, splits=("test",), mix=mix, progress=show)
    return read_manifest(world / "manifest.jsonl")[:clips]


def _own(media: Path | None) -> list[Item]:
    from peav.cli.demo_searches import Item
    from peav.media import find_media

    if media is None:
        return []
    files = find_media([media])
    if len(files) > MOST_OWN:
        err.print(f"[yellow]{len(files)} files in {shown(media)}; the demo takes the first {MOST_OWN}[/]")
    return [Item(file.absolute(), own=True) for file in files[:MOST_OWN]]


def _write(path: Path, text: str) -> Path:
    from peav.utils.storage import write_all

    write_all(path, text)
    return path.absolute()


def _open(page: Path) -> None:
    """Show the page in a browser, without what browsers print, and without one that would take over the terminal."""
    # -P: not a webbrowser.py of the working directory.
    command, none = [sys.executable, "-P", "-m", "webbrowser", page.as_uri()], subprocess.DEVNULL
    subprocess.run(command, stdin=none, stdout=none, stderr=none, start_new_session=True)


def _summary(searches: Sequence[Search]) -> Table:
    table = Table(box=None, header_style="dim")
    for heading in ("search", "queries", "candidates", "R@1", "R@5", "chance"):
        table.add_column(heading, justify="left" if heading == "search" else "right")
    for search in searches:
        figures = (f"{value:.0%}" for value in search.recall.values())
        table.add_row(search.title, str(len(search.queries)), str(len(search.targets)), *figures)
    return table
