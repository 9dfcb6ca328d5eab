"""`peav world`: write clips of the procedural audio-video world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peav.cli import options
from peav.cli.console import out, print_json, shown
from peav.utils.progress import counting
from peav.utils.text import counted


def world(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for manifest.jsonl and media/.")],
    clips: Annotated[int, typer.Option(min=1, help="How many clips.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same clips.")] = 0,
    split: Annotated[str, typer.Option(help="train, validation or test; all shares them 80:10:10.")] = "all",
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    as_json: options.Json = False,
) -> None:
    """Write clips of the procedural audio-video world; clips that are there already are kept."""
    from peav.synth.world import generate
    from peav.synth.world.splits import SPLITS

    splits = SPLITS if split == "all" else (split,)
    with counting("making clips", clips) as show:
        manifest = generate(folder, clips, seed, splits=splits, jobs=jobs, progress=show)
    if as_json:
        print_json({"manifest": str(manifest), "clips": clips})
    else:
        out.print(f"{counted(clips, 'clip')}: {shown(manifest)}")
