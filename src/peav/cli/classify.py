"""`peav classify`: which of some labels fits each file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from peav.cli.console import (
    BatchSize,
    CacheDir,
    Device,
    Dtype,
    Json,
    Model,
    Revision,
    Window,
    escape,
    fail,
    load,
    meter,
    one_line_warnings,
    out,
    print_json,
    shown,
)
from peav.types import Modality
from peav.utils.labels import readable
from peav.utils.text import lines, read_text

if TYPE_CHECKING:
    from peav.encoder import Encoder


def classify(
    files: Annotated[list[Path], typer.Argument(help="Files and folders; folders are searched for media.")],
    labels: Annotated[str | None, typer.Option(help="Labels, with commas between them: dog,cat")] = None,
    labels_file: Annotated[Path | None, typer.Option(help="Labels, one a line.")] = None,
    prompt: Annotated[str, typer.Option(help="How a label becomes a caption; {} stands for the label.")] = "{}",
    space: Annotated[
        Modality | None,
        typer.Option(help="Judge by sound, pictures or both; by default by what each file has."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many labels to show for each file.")] = 3,
    model: Model = "tiny",
    device: Device = None,
    revision: Revision = None,
    dtype: Dtype = None,
    cache_dir: CacheDir = None,
    window: Window = 30.0,
    batch_size: BatchSize = 8,
    as_json: Json = False,
) -> None:
    """Say which of some labels fits each file: a softmax over the model's logits for the labels' captions."""
    from peav.media import find_media

    names = _labels(labels, labels_file)
    if "{}" not in prompt:
        fail(f"--prompt {prompt!r} has no {{}} for the label to stand in")
    paths = find_media(files)
    if not paths:
        fail(f"no media files in {', '.join(map(str, files))}")
    encoder = load(model, device, revision, dtype, cache_dir)
    with one_line_warnings():
        results = _classify(encoder, paths, names, prompt, space, window=window, batch_size=batch_size)
    if as_json:
        print_json(results)
    else:
        out.print(_table(results, top))
    if all("error" in result for result in results):
        raise typer.Exit(1)


def _labels(labels: str | None, file: Path | None) -> list[str]:
    """The labels without blanks and repeats, in their order."""
    if (labels is None) == (file is None):
        fail("give the labels as --labels dog,cat or --labels-file FILE")
    text = labels.replace(",", "\n") if labels is not None else read_text(file) if file else ""
    names = list(dict.fromkeys(line.strip() for _, line in lines(text)))
    if not names:
        fail("no labels given")
    return names


def _classify(
    encoder: Encoder, paths: list[Path], labels: list[str], prompt: str, space: Modality | None, **options: Any
) -> list[dict[str, Any]]:
    """Per file: its labels with their probabilities, best first, or the error that it gave."""
    from peav.search import TEXT_PAIR
    from peav.types import DecodeFailure

    captions = [prompt.replace("{}", readable(label)) for label in labels]
    texts: dict[str, Any] = {}
    logits: dict[int, list[tuple[float, str, np.ndarray]]] = {}
    errors: dict[int, str] = {}
    wanted = None if space is None else (space,)
    for result in encoder.stream(paths, wanted, show_progress=True, isolate=True, **options):
        if isinstance(result, DecodeFailure):
            errors[result.index] = str(result.error)
        elif result.embeddings:
            medium: Modality = space or result.modality
            if medium not in texts:
                texts[medium] = encoder.encode_text(captions, medium)
            scores = np.asarray(encoder.logits(result.embedding, texts[medium], TEXT_PAIR[medium]))
            logits.setdefault(result.index, []).append((result.end - result.start, medium, scores))
    return [_result(i, path, labels, logits.get(i, []), errors, space) for i, path in enumerate(paths)]


def _result(
    index: int,
    path: Path,
    labels: list[str],
    parts: list[tuple[float, str, np.ndarray]],
    errors: dict[int, str],
    space: str | None,
) -> dict[str, Any]:
    if index in errors or not parts:
        return {"path": str(path), "error": errors.get(index, f"{path}: has no {space}")}
    # Windows count by their length, as they do in the embedding of a whole file.
    mean = np.average([scores for _, _, scores in parts], axis=0, weights=[seconds for seconds, _, _ in parts])
    shares = np.exp(mean - mean.max())
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable")
    ranked = [{"label": labels[i], "probability": float(shares[i]), "logit": float(mean[i])} for i in order]
    return {"path": str(path), "space": parts[0][1], "label": ranked[0]["label"], "labels": ranked}


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
