"""`peav describe`: what is heard and seen in files, in words, along the time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from peav.cli import options
from peav.cli.console import escape, fail, out, print_csv, print_json, shown
from peav.utils.progress import bar
from peav.utils.text import clock


def describe(
    files: options.Files,
    model: Annotated[str, typer.Option(help="A captioner: a directory that training wrote, or a hub name.")],
    prompt: Annotated[str, typer.Option(help="What is asked: caption, events, environment, or any words.")] = "caption",
    encoder: Annotated[
        str | None, typer.Option(help="Where its PE-AV model is, if not where it was in training.")
    ] = None,
    language_model: Annotated[
        str | None, typer.Option(help="Where its language model is: a directory, a .gguf file or a hub name.")
    ] = None,
    device: options.Device = None,
    revision: options.Revision = None,
    dtype: options.Dtype = None,
    cache_dir: options.CacheDir = None,
    window: options.Window = 10.0,
    batch_size: options.BatchSize = 8,
    vtt: Annotated[Path | None, typer.Option(help="A folder for captions as WebVTT, FILE.vtt for each file.")] = None,
    as_csv: options.Csv = False,
    as_json: options.Json = False,
) -> None:
    """Tell in words what is heard and seen in files, window by window, by a captioner (docs/captioning.md)."""
    from peav.captioner import Captioner
    from peav.types import DecodeFailure

    paths = [path.absolute() for path in options.media_in(files)]
    if vtt is not None and len({path.name for path in paths}) < len(paths):
        fail("--vtt: two files have the same name; describe them one folder at a time")
    captioner = Captioner.load(
        model,
        encoder=encoder,
        language_model=language_model,
        device=device,
        dtype=dtype,
        revision=revision,
        cache_dir=cache_dir,
    )
    results: list[dict[str, Any]] = [{"path": str(path), "windows": []} for path in paths]
    with bar() as progress:
        task = progress.add_task("describing", total=len(paths))
        for one in captioner.stream(paths, prompt, window=window, batch_size=batch_size, isolate=True):
            if isinstance(one, DecodeFailure):
                results[one.index]["error"] = str(one.error)
            else:
                results[one.index]["windows"].append({"start": one.start, "end": one.end, "text": one.text})
            progress.update(task, completed=one.index)
        progress.update(task, completed=len(paths))
    if vtt is not None:
        _write_vtt(results, vtt)
    if as_json:
        print_json(results)
    elif as_csv:
        lines = [one | window for one in results for window in one["windows"] or [{}]]
        print_csv(("path", "start", "end", "text", "error"), lines)
    else:
        out.print(_table(results))
    if all("error" in result for result in results):
        raise typer.Exit(1)


def _write_vtt(results: list[dict[str, Any]], folder: Path) -> None:
    from peav.events.formats import to_vtt
    from peav.types import Event
    from peav.utils.storage import write_all

    for result in results:
        if "error" in result and not result["windows"]:
            continue
        cues = [Event(one["text"], one["start"], one["end"]) for one in result["windows"] if one["text"]]
        write_all(folder / f"{Path(result['path']).name}.vtt", to_vtt(cues))


def _table(results: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="dim")
    for heading in ("file", "from", "to", "what"):
        table.add_column(heading, justify="right" if heading in ("from", "to") else "left", overflow="fold")
    for result in results:
        name = shown(result["path"])
        for window in result["windows"]:
            table.add_row(name, clock(window["start"]), clock(window["end"]), escape(window["text"]))
            name = ""
        if "error" in result:
            table.add_row(name, "", "", f"[red]{escape(result['error'])}[/]")
    return table
