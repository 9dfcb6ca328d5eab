"""`peav search`: find windows in a library by text, sound or video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from peav.cli import options
from peav.cli.console import clock, err, escape, fail, load, meter, out, print_csv, print_json, say_written, shown
from peav.types import Modality
from peav.utils.text import counted

if TYPE_CHECKING:
    from peav.errors import MediaError
    from peav.search import Hit

By = Literal["window", "file"]


def search(
    library: Annotated[Path, typer.Argument(help="What `peav embed -o` wrote.")],
    text: Annotated[str | None, typer.Argument(help="What to look for, in words.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Look for what sounds like this file.")] = None,
    video: Annotated[Path | None, typer.Option(help="Look for what looks like this file.")] = None,
    text_option: Annotated[
        str | None, typer.Option("--text", help="The same as TEXT; with --audio or --video: words to add to it.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many to show.")] = 10,
    min_score: Annotated[float, typer.Option(help="Leave out what scores less.")] = -math.inf,
    by: Annotated[By, typer.Option(help="Every window that was found, or the best one of each file.")] = "window",
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
    html: Annotated[Path | None, typer.Option(help="Write a page with a player for each hit here.")] = None,
    captions: options.Captions = None,
    m3u: Annotated[Path | None, typer.Option(help="Write a playlist here; VLC begins each file at the moment.")] = None,
    clips: Annotated[Path | None, typer.Option(help="Cut the windows out, as files in this folder.")] = None,
    as_csv: options.Csv = False,
    as_json: options.Json = False,
) -> None:
    """Search a library by text, sound or video.

    Text finds windows by what they hold. --audio finds what sounds alike (with --space video: pictures that go with the
    sound), --video what looks alike (with --space audio: sound that goes with the pictures). --audio with --text finds
    pictures, --video with --text finds sound.

    A score is the model's logit, which is comparable between sound and pictures, or the cosine (-1 to 1) of like with
    like; only the order counts, so look at a few before you choose a --min-score.
    """
    options.check_captions(captions, html)
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
    hits = search_library(library, query, encoder.model_id, top, min_score=min_score, by_file=by == "file")
    title = " + ".join(str(part) for part in (audio and audio.name, video and video.name, text) if part)
    _write(hits, title, html, m3u, clips, captions)
    if as_json:
        print_json([hit.to_dict() for hit in hits])
    elif as_csv:
        print_csv(("path", "start", "end", "modality", "space", "score"), [hit.to_dict() for hit in hits])
    elif hits:
        out.print(_table(hits))
    else:
        out.print(f"nothing scores {min_score:g} or more")


def _write(
    hits: Sequence[Hit],
    title: str,
    html: Path | None,
    m3u: Path | None,
    clips: Path | None,
    captions: Path | None,
) -> None:
    """The files that were asked for; a hit whose file cannot be read any more is left out with a word."""
    from peav.search.export import cut_clips, page, to_m3u
    from peav.utils.storage import write_all

    def failed(error: MediaError) -> None:
        err.print(f"[yellow]left out:[/] {escape(str(error))}", soft_wrap=True, highlight=False)

    read = options.captions_of(captions, (Path(hit.path) for hit in hits))
    texts = [(html, lambda: page(f"peav: {title}", hits, failed, read)), (m3u, lambda: to_m3u(hits))]
    for path, text in texts:
        if path is not None:
            write_all(path, text())
            say_written(path)
    if clips is not None:
        written = cut_clips(hits, clips, failed)
        err.print(
            f"[dim]written:[/] {counted(len(written), 'file')} in {shown(clips)}", soft_wrap=True, highlight=False
        )


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
