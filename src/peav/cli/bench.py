"""`peav bench`: how fast a model is on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from peav.cli import options
from peav.cli.console import echo, err, escape, load, print_json, say_written


def bench(
    model: Annotated[
        str, typer.Option(help="As elsewhere, or random:SIZE, such as random:small, with random weights of that size.")
    ] = "tiny",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file for the JSON; a chart, .svg, is written beside it.")
    ] = None,
    device: options.Device = "cpu",
    revision: options.Revision = None,
    dtype: options.Dtype = None,
    cache_dir: options.CacheDir = None,
    seconds: Annotated[float, typer.Option(min=0.04, help="Of sound that a part is given.")] = 10.0,
    frames: Annotated[int, typer.Option(min=1, help="Of video that a part is given.")] = 4,
    clips: Annotated[int, typer.Option(min=1, help="In a training step.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Every figure is the median of so many.")] = 5,
    files: Annotated[int, typer.Option(min=0, help="Short clips to embed from end to end; 0: none.")] = 64,
    transformers: Annotated[bool, typer.Option(help="Measure transformers' classes with the same weights too.")] = True,
    as_json: options.Json = False,
) -> None:
    """Measure a model on this machine: seconds, operations, memory, and its share of the machine's peak.

    Encoders, a training step, memory by length and files a minute from end to end. On a CPU parts are measured on one
    core in processor seconds, so that other jobs hardly count; transformers and peav take turns with the same weights.
    """
    from peav.bench.parts import Sizes
    from peav.bench.report import to_markdown, to_svg
    from peav.bench.run import bench as measure
    from peav.bench.run import random_encoder
    from peav.utils.storage import write_all

    kind, _, size = model.partition(":")
    if kind == "random":
        encoder = random_encoder(size, device, dtype)
    else:
        encoder = load(model, device, revision, dtype, cache_dir)
    with err.status("measuring") as status:
        report = measure(
            encoder,
            sizes=Sizes(seconds, frames, clips),
            repeats=repeats,
            files=files,
            beside=transformers,
            progress=lambda part: status.update(f"measuring: {part}"),
        )
    if output is not None:
        chart = output.with_suffix(".svg")
        write_all(output, json.dumps(report, indent=1) + "\n")
        write_all(chart, to_svg(report))
        say_written(output, chart)
    for reason in report["left_out"]:
        err.print(f"[yellow]not measured:[/] {escape(reason)}", soft_wrap=True, highlight=False)
    if as_json:
        print_json(report)
    else:
        echo(to_markdown(report))
