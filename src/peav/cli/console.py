"""What the verbs share: where they print, how they fail, options that several of them have."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from peav.encoder import Encoder

out = Console()
err = Console(stderr=True)

Model = Annotated[str, typer.Option(help="tiny, a hub name such as facebook/pe-av-large, or a directory.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; the first GPU by default, if there is one.")]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of the model on the hub; NAME@REVISION says the same.")
]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16"] | None,
    typer.Option(help="Of the weights and what is computed with them; float32 by default."),
]
CacheDir = Annotated[Path | None, typer.Option(help="Where downloads are kept; the hub's own cache by default.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Windows per forward pass.")]
Window = Annotated[float, typer.Option(min=1.0, help="Long files are cut into windows of so many seconds.")]
Space = Literal["audio", "video", "audio_video"]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of tables.")]


def fail(reason: object) -> NoReturn:
    """One red line on stderr, exit code 2."""
    line = " ".join(str(reason).split())
    err.print(f"[bold red]error:[/] {escape(line)}", soft_wrap=True, highlight=False)
    raise typer.Exit(2)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Warnings as one yellow line each, above a progress bar, instead of Python's two with a line of source."""

    def show(
        message: Warning | str, category: Any, filename: Any, lineno: Any, file: Any = None, line: Any = None
    ) -> None:
        err.print(f"[yellow]warning:[/] {escape(str(message))}", soft_wrap=True, highlight=False)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def print_json(result: Any) -> None:
    """JSON on stdout, untouched by colours and line widths."""
    typer.echo(json.dumps(result, indent=2, ensure_ascii=False))


def load(
    model: str,
    device: str | None = None,
    revision: str | None = None,
    dtype: str | None = None,
    cache_dir: Path | None = None,
) -> Encoder:
    """Load the model with a sign of life, since a large one takes a while."""
    import peav

    with err.status(f"loading {escape(model)}"):
        return peav.load(model, device=device, revision=revision, dtype=dtype, cache_dir=cache_dir)


def shown(path: str | Path) -> str:
    """A path as short as it can be: relative to the working directory where it lies below it."""
    path, here = str(path), os.getcwd() + os.sep
    return escape(path.removeprefix(here))


def clock(seconds: float) -> str:
    """62.5 -> 1:02.5."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def meter(share: float, width: int = 12) -> str:
    """A bar for a share of 0 to 1."""
    filled = round(max(0.0, min(1.0, share)) * width)
    return f"[green]{'━' * filled}[/][dim]{'━' * (width - filled)}[/]"
