"""`peav eval`: retrieval and classification figures of a model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peav.cli.console import (
    BatchSize,
    CacheDir,
    Device,
    Dtype,
    Json,
    Revision,
    echo,
    fail,
    load,
    out,
    print_json,
)

if TYPE_CHECKING:
    from peav.eval.embedder import FileEmbedder
    from peav.eval.tables import Table


def eval(
    model: Annotated[str, typer.Argument(help="tiny, a hub name (facebook/pe-av-large) or a directory.")] = "tiny",
    world: Annotated[Path | None, typer.Option(help="A manifest with captions, e.g. of `peav world`.")] = None,
    split: Annotated[str, typer.Option(help="The split of the manifest and of GRID.")] = "test",
    esc10: Annotated[
        list[Path] | None, typer.Option(help="A folder of labeled sounds; of several, each and all together.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(help="Its fold to test on; by default the one training leaves out.")
    ] = None,
    grid: Annotated[Path | None, typer.Option(help="A folder of GRID sentences.")] = None,
    sentences: Annotated[
        bool, typer.Option("--sentences", help="Hold GRID's clips against all 64 000 sentences of its grammar, too.")
    ] = False,
    candidates: Annotated[int, typer.Option(min=2, help="Clips to search among in --world.")] = 256,
    seed: Annotated[int, typer.Option(help="Decides which clips those are.")] = 0,
    normalize: Annotated[bool, typer.Option(help="Compare by cosine instead of by dot product.")] = False,
    device: Device = None,
    revision: Revision = None,
    dtype: Dtype = None,
    cache_dir: CacheDir = None,
    batch_size: BatchSize = 8,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown on stdout instead of tables.")] = False,
    as_json: Json = False,
) -> None:
    """Measure a model on a manifest, on classes of sounds and on spoken sentences; give one or more of these.

    Ties count against the model and chance stands beside each figure. Clips that cannot be read are left out and
    listed.
    """
    from peav.eval import benchmarks
    from peav.eval.embedder import FileEmbedder
    from peav.eval.grid import sentence_table
    from peav.utils.progress import bar

    jobs: list[Callable[..., Table]] = []
    if world is not None:
        jobs.append(partial(benchmarks.world, manifest=world, split=split, candidates=candidates, seed=seed))
    folders = esc10 or []
    sets = [[folder] for folder in folders] + ([folders] if len(folders) > 1 else [])
    jobs += [partial(benchmarks.sounds, folders=each, fold=fold) for each in sets]
    if grid is not None:
        jobs.append(partial(benchmarks.grid, folder=grid, split=split, seed=seed))
        if sentences:
            jobs.append(partial(sentence_table, folder=grid, split=split))
    elif sentences:
        fail("--sentences is about GRID; give --grid FOLDER as well")
    if not jobs:
        fail("nothing to measure; give --world MANIFEST, --esc10 FOLDER or --grid FOLDER")
    encoder = load(model, device, revision, dtype, cache_dir)
    with bar() as progress:
        task = progress.add_task("embedding clips", total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        embedder = FileEmbedder(encoder, normalize=normalize, batch_size=batch_size, progress=show)
        try:
            tables = [job(embedder) for job in jobs]
        finally:
            failures = _failures(embedder)
    if as_json:
        print_json({"model": encoder.name, "results": [table.to_dict() for table in tables], "failures": failures})
    elif markdown:
        note = [f"{len(failures)} clips cannot be read and are left out."] if failures else []
        echo("\n\n".join([*(table.to_markdown() for table in tables), *note]))
    else:
        for table in tables:
            out.print(table.to_rich())


def _failures(embedder: FileEmbedder) -> list[dict[str, str]]:
    """What has no part in the figures, and why; each is said on stderr."""
    for _, error in embedder.failed.values():
        warnings.warn(f"left out of all figures: {error}", stacklevel=2)
    return [
        {"id": row.id, "error": type(error).__name__, "reason": str(error)} for row, error in embedder.failed.values()
    ]
