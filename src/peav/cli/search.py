"""`peav search`: find windows in a library by text, sound or video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from peav.cli import options
from peav.cli.console import clock, fail, load, meter, out, print_json, shown
from peav.types import Modality

if TYPE_CHECKING:
    from peav.search import Hit


def search(
    library: Annotated[Path, typer.Argument(help="What `peav embed -o` wrote.")],
    text: Annotated[str | None, typer.Argument(help="What to look for, in words.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Look for what sounds like this file.")] = None,
    video: Annotated[Path | None, typer.Option(help="Look for what looks like this file.")] = None,
    text_option: Annotated[
        str | None, typer.Option("--text", help="The same as TEXT; with --audio or --video: words to add to it.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many to show.")] = 10,
    space: Annotated[
        Modality | None, typer.Option(help="Search sound, pictures or both; by default what suits each file.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A name or directory as for `peav embed`; by default the library's own.")
    ] = None,
    device: options.Device = None,
    revision: options.Revision = None,
    dtype: options.Dtype = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
) -> None:
    """Search a library by text, sound or video.

    Text finds windows by what they hold. --audio finds what sounds alike (with --space video: pictures that go with the
    sound), --video what looks alike (with --space audio: sound that goes with the pictures). --audio with --text finds
    pictures, --video with --text finds sound.
    """
    from peav.search import make_query
    from peav.search import search as search_library
    from peav.search.library import model_of, open_library

    if text is not None and text_option is not None:
        fail(f"two texts, {text!r} and --text {text_option!r}; give one")
    text = text if text is not None else text_option
    with open_library(library) as opened:
        _, made_by = model_of(opened)
    encoder = load(model or made_by, device, revision, dtype, cache_dir)
    query = make_query(encoder, text, audio=audio, video=video, space=space)
    hits = search_library(library, query, encoder.model_id, top)
    if as_json:
        print_json([hit.to_dict() for hit in hits])
    else:
        out.print(_table(hits))


def _table(hits: Sequence[Hit]) -> Table:
    table = Table(box=None, header_style="dim")
    for heading in ("#", "file", "time", "in", "score", ""):
        table.add_column(heading, justify="right" if heading in ("#", "score") else "left", overflow="fold")
    best, worst = hits[0].score, hits[-1].score
    for rank, hit in enumerate(hits, 1):
        share = (hit.score - worst) / (best - worst) if best > worst else 1.0
        span = f"{clock(hit.start)} - {clock(hit.end)}"
        table.add_row(
            str(rank), shown(hit.path), span, hit.space.replace("_", "+"), f"{hit.score:.3f}", meter(0.1 + 0.9 * share)
        )
    return table
