"""`peav eval`: retrieval and classification figures of a model."""

from __future__ import annotations

import warnings
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peav.cli import options
from peav.cli.console import echo, fail, load, out, print_json
from peav.utils.text import counted

if TYPE_CHECKING:
    from peav.eval.benchmarks import Benchmark
    from peav.eval.embedder import FileEmbedder


def eval(
    model: Annotated[str, typer.Argument(help="tiny, a hub name (facebook/pe-av-large) or a directory.")] = "tiny",
    manifest: Annotated[
        Path | None, typer.Option(help="Your clips with captions: a manifest, or tars (x.tar, 'x-*.tar').")
    ] = None,
    world: Annotated[Path | None, typer.Option(hidden=True, help="The former name of --manifest.")] = None,
    bench: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PATH: manifest, sounds, grid, or a class of yours, path/to/file.py:Class=PATH."),
    ] = None,
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
    candidates: Annotated[int, typer.Option(min=2, help="Clips to search among in --manifest.")] = 256,
    seed: Annotated[int, typer.Option(help="Decides which clips those are.")] = 0,
    normalize: Annotated[bool, typer.Option(help="Compare by cosine instead of by dot product.")] = False,
    device: options.Device = None,
    revision: options.Revision = None,
    dtype: options.Dtype = None,
    cache_dir: options.CacheDir = None,
    batch_size: options.BatchSize = 8,
    markdown: options.Markdown = False,
    as_json: options.Json = False,
) -> None:
    """Measure a model on a manifest, on classes of sounds and on spoken sentences; give one or more of these.

    Ties count against the model and chance stands beside each figure. Clips that cannot be read are left out and
    listed.
    """
    from peav.eval.benchmarks.grid import Grid
    from peav.eval.benchmarks.manifest import Manifest
    from peav.eval.benchmarks.sounds import Sounds
    from peav.eval.embedder import FileEmbedder
    from peav.utils.progress import counting

    wanted: list[Benchmark] = [_named(one) for one in bench or ()]
    if world is not None:
        warnings.warn("--world is --manifest now; the old name goes with the next release", FutureWarning, stacklevel=2)
    wanted += [Manifest(place, split, candidates, seed) for place in (manifest, world) if place is not None]
    folders = esc10 or []
    wanted += [Sounds(folder, fold=fold) for folder in folders]
    wanted += [Sounds(folders[0], tuple(folders[1:]), fold)] if len(folders) > 1 else []
    if grid is not None:
        wanted.append(Grid(grid, split, seed=seed, sentences=sentences))
    elif sentences:
        fail("--sentences is about GRID; give --grid FOLDER as well")
    if not wanted:
        fail("nothing to measure; give --manifest MANIFEST, --esc10 FOLDER, --grid FOLDER or --bench NAME=PATH")
    encoder = load(model, device, revision, dtype, cache_dir)
    with counting("embedding clips") as show:
        embedder = FileEmbedder(encoder, normalize=normalize, batch_size=batch_size, progress=show)
        try:
            tables = [table for one in wanted for table in one.run(embedder)]
        finally:
            failures = _failures(embedder)
    if as_json:
        print_json({"model": encoder.name, "results": [table.to_dict() for table in tables], "failures": failures})
    elif markdown:
        note = [f"{counted(len(failures), 'clip')} that cannot be read: left out."] if failures else []
        echo("\n\n".join([*(table.to_markdown() for table in tables), *note]))
    else:
        for table in tables:
            out.print(table.to_rich())


def _named(option: str) -> Benchmark:
    """The benchmark of NAME=PATH."""
    from peav.eval.benchmarks import BENCHMARKS, Benchmark
    from peav.utils.atomic import on_disk
    from peav.utils.plugins import load_class

    name, equals, path = option.partition("=")
    if not equals or not path:
        fail(f"--bench {option}: write it as NAME=PATH; names are {', '.join(BENCHMARKS)}, or path/to/file.py:Class")
    return load_class(name, Benchmark, BENCHMARKS)(on_disk(path, "--bench"))


def _failures(embedder: FileEmbedder) -> list[dict[str, str]]:
    """What has no part in the figures, and why; each is said on stderr."""
    from peav.features.failures import clip_failure

    for _, error in embedder.failed.values():
        warnings.warn(f"left out of all figures: {error}", stacklevel=2)
    return list(starmap(clip_failure, embedder.failed.values()))
