"""Options and arguments that several verbs have, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from peav.cli.console import err, fail, shown
from peav.utils.atomic import on_disk
from peav.utils.text import lines, read_text, readable

if TYPE_CHECKING:
    from peav.events import Postprocessing
    from peav.types import TimedCaption

Files = Annotated[list[Path], typer.Argument(help="Files and folders; folders are searched for media.")]
Library = Annotated[Path, typer.Argument(help="What `peav embed -o` wrote.")]
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
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of tables.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV on stdout instead of tables.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown on stdout instead of tables.")]
Resume = Annotated[bool, typer.Option(help="Skip files that were done or failed before, unchanged; else start anew.")]
Captions = Annotated[
    Path | None, typer.Option(help="With --html: captions beside the players, from what `peav describe -o` wrote.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try files again that failed before.")]

# Of detection:
FrameModel = Annotated[
    str, typer.Option(help="frame-tiny, a hub name such as facebook/pe-a-frame-large, or a directory.")
]
Labels = Annotated[str | None, typer.Option(help="What to look for, with commas between: dog,siren")]
LabelsFile = Annotated[
    Path | None, typer.Option(help="The same, one a line; after a tab, the words that the model reads for it.")
]
Prompt = Annotated[str, typer.Option(help="How a label becomes words; {} stands for the label.")]
# By default these five are the model's own.
Threshold = Annotated[
    str | None,
    typer.Option(
        help="A probability, or a file of one per label that `peav detect calibrate` wrote; the model's own by default."
    ),
]
Median = Annotated[
    float | None, typer.Option(min=0.0, help="Median-filter the scores over so many seconds; as the model says.")
]
Low = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        max=1.0,
        help="Hysteresis: an event lasts while above this share of its threshold; as the model says.",
    ),
]
MinGap = Annotated[
    float | None, typer.Option(min=0.0, help="Join events with a shorter pause, in seconds; as the model says.")
]
MinLength = Annotated[float | None, typer.Option(min=0.0, help="Drop shorter events, in seconds; as the model says.")]


def check_captions(folder: Path | None, html: Path | None) -> None:
    """What is wrong with `--captions` is said before a model is loaded."""
    if folder is not None:
        if html is None:
            fail("--captions needs a page to stand in; give --html PAGE too")
        from peav.describe import captions_file

        captions_file(folder)


def captions_of(folder: Path | None, files: Iterable[Path]) -> dict[str, list[TimedCaption]]:
    """What `--captions` names, for a page of these files; says so where it has none of them."""
    if folder is None:
        return {}
    from peav.describe import read_captions

    found = read_captions(folder, files)
    if not found:
        err.print(f"[yellow]no captions[/] of these files in {shown(folder)}", soft_wrap=True, highlight=False)
    return found


def media_in(paths: Sequence[Path]) -> list[Path]:
    """The media files that a verb was given. Absent ones stay among them, to be listed as failures."""
    from peav.media.find import media_files

    files = media_files(paths)
    if not files:
        fail(f"no media files in {', '.join(map(str, paths))}")
    return files


def label_texts(labels: str | None, file: Path | None, prompt: str) -> dict[str, str]:
    """Each label and the words that the model reads for it; a label given twice counts once."""
    if (labels is None) == (file is None):
        fail("give the labels as --labels dog,siren or --labels-file FILE")
    if "{}" not in prompt:
        fail(f"--prompt {prompt!r} has no {{}} for the label to stand in")
    text = labels.replace(",", "\n") if labels is not None else read_text(file) if file else ""
    texts = {}
    for _, line in lines(text):
        label, _, words = (part.strip() for part in line.strip().partition("\t"))
        texts[label] = words or prompt.replace("{}", readable(label))
    if not texts:
        fail("no labels given")
    return texts


def postprocessing(
    own: Postprocessing,
    labels: Iterable[str],
    threshold: str | None,
    low: float | None,
    median: float | None,
    min_gap: float | None,
    min_length: float | None,
) -> Postprocessing:
    """The model's `own` settings with the options in their place; a threshold that is no number is a file of them."""
    from peav.events.thresholds import read_thresholds

    try:
        value: Any = threshold and float(threshold)
    except ValueError:
        value = read_thresholds(on_disk(str(threshold), "--threshold"))
    return own.adjusted(labels, value, low=low, median=median, min_gap=min_gap, min_length=min_length)
