"""`peav mix`: soundscapes with timed events out of labeled sounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peav.cli import options
from peav.cli.console import err, out, print_json, shown
from peav.utils.progress import counting
from peav.utils.text import counted


def mix(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for manifest.jsonl and media/.")],
    sounds: Annotated[
        list[Path],
        typer.Option("--sounds", help="A manifest whose rows have events or a label, or a recordings folder."),
    ],
    backgrounds: Annotated[
        str, typer.Option(help="Labels whose sounds are backgrounds, never events: rain,wind. None: pink noise.")
    ] = "",
    without: Annotated[
        Path | None, typer.Option(help="A manifest of mixtures; what they were made of is left out.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Use rows of this split alone, and mark the clips so.")] = None,
    clips: Annotated[int, typer.Option(min=1, help="How many soundscapes.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and sounds make the same soundscapes.")] = 0,
    duration: Annotated[float, typer.Option(help="Seconds of each.")] = 10.0,
    events: Annotated[tuple[int, int], typer.Option(help="Fewest and most sounds in each.")] = (1, 5),
    overlap: Annotated[int, typer.Option(min=1, help="How many labels may be heard at once.")] = 3,
    snr: Annotated[tuple[float, float], typer.Option(help="Lowest and highest level over the background, dB.")] = (
        0.0,
        20.0,
    ),
    speed: Annotated[tuple[float, float], typer.Option(help="Slowest and fastest that a sound is played.")] = (
        1.0,
        1.0,
    ),
    tilt: Annotated[float, typer.Option(help="Most that a sound is made brighter or darker, dB an octave.")] = 0.0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    as_json: options.Json = False,
) -> None:
    """Mix labeled sounds into soundscapes; the manifest has the times at which each is heard."""
    from peav.synth.mix import Mixing, make_mixer, read_rows, without_sources, write_mixes

    rows = [row for path in sounds for row in read_rows(path) if split is None or row.split == split]
    if without is not None:
        rows = without_sources(rows, without)
    ground = [label.strip() for label in backgrounds.split(",") if label.strip()]
    how = Mixing(duration=duration, events=events, overlap=overlap, snr=snr, speed=speed, tilt=tilt)
    failures = folder / "failures.jsonl"
    mixer = make_mixer(rows, ground, failures, how)
    if failures.exists():
        err.print(f"[yellow]note:[/] sounds were left out, see {shown(failures)}", highlight=False)
    with counting("mixing", clips) as show:
        manifest = write_mixes(folder, mixer, clips, seed, split=split, jobs=jobs, progress=show)
    if as_json:
        print_json({"manifest": str(manifest), "clips": clips})
    else:
        out.print(f"{counted(clips, 'soundscape')}: {shown(manifest)}")
