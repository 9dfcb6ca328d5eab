"""`peav classify`: which of some labels fits each file."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from peav.cli import options
from peav.cli.console import escape, load, meter, out, print_csv, print_json, shown
from peav.types import Modality


def classify(
    files: options.Files,
    labels: options.Labels = None,
    labels_file: options.LabelsFile = None,
    prompt: options.Prompt = "{}",
    space: Annotated[
        Modality | None,
        typer.Option(help="Judge by sound, pictures or both; by default by what each file has."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many labels to show for each file.")] = 3,
    model: options.Model = "tiny",
    device: options.Device = None,
    revision: options.Revision = None,
    dtype: options.Dtype = None,
    cache_dir: options.CacheDir = None,
    window: options.Window = 30.0,
    batch_size: options.BatchSize = 8,
    as_csv: options.Csv = False,
    as_json: options.Json = False,
) -> None:
    """Say which of some labels fits each file: a softmax over the model's logits for the labels' captions."""
    from peav.types import DecodeFailure

    texts = options.label_texts(labels, labels_file, prompt)
    paths = [path.absolute() for path in options.media_in(files)]
    encoder = load(model, device, revision, dtype, cache_dir)
    results: list[dict[str, Any]] = []
    for result in encoder.classify_stream(
        paths, texts, space, window=window, batch_size=batch_size, show_progress=True, isolate=True
    ):
        found = {"error": str(result.error)} if isinstance(result, DecodeFailure) else result.to_dict()
        results.append({"path": str(paths[result.index]), **found})
    if as_json:
        print_json(results)
    elif as_csv:
        lines = [one | entry for one in results for entry in one.get("labels", [{}])[:top]]
        print_csv(("path", "space", "label", "probability", "error"), lines)
    else:
        out.print(_table(results, top))
    if all("error" in result for result in results):
        raise typer.Exit(1)


def _table(results: list[dict[str, Any]], top: int) -> Table:
    table = Table(box=None, header_style="dim")
    for heading in ("file", "by", "label", "probability", ""):
        table.add_column(heading, justify="right" if heading == "probability" else "left", overflow="fold")
    for result in results:
        if "error" in result:
            table.add_row(shown(result["path"]), "", f"[red]{escape(result['error'])}[/]", "", "")
            continue
        for place, entry in enumerate(result["labels"][:top]):
            first = place == 0
            table.add_row(
                shown(result["path"]) if first else "",
                result["space"].replace("_", "+") if first else "",
                f"[bold]{escape(entry['label'])}[/]" if first else escape(entry["label"]),
                f"{entry['probability']:.1%}",
                meter(entry["probability"]),
            )
    return table
