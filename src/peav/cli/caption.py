"""`peav caption`: captions of three kinds for the clips of a manifest, by the steps of a recipe."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peav.cli import options
from peav.cli.console import fail, out, print_json, shown
from peav.utils.progress import bar
from peav.utils.text import counted

if TYPE_CHECKING:
    from rich.progress import TaskID

    from peav.engine.recipe import EngineRecipe
    from peav.engine.run import Summary
    from peav.engine.work import Progress, Step

DOING = {"caption": "captioning", "rewrite": "rewriting", "write": "writing"}


def caption(
    clips: Annotated[
        list[str],
        typer.Argument(metavar="MANIFEST|DIR...", help="Manifests, tars, or folders of recordings or media files."),
    ],
    folder: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Folder of the run and its shards.")],
    recipe: Annotated[
        Path, typer.Option(help="The steps: a YAML file, or a shipped recipe such as engine/stage1.")
    ] = Path("engine/stage1"),
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key: --set rows=64 (repeatable).")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores by default.")] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Work on Ray: auto, local, or its address.")
    ] = None,
    cpus: Annotated[float, typer.Option(min=0, help="With --ray, processors of an actor; may be a fraction.")] = 1.0,
    gpus: Annotated[float, typer.Option(min=0, help="With --ray, GPUs of an actor; may be a fraction.")] = 0.0,
    limit: Annotated[int | None, typer.Option(min=1, help="The first rows alone.")] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Print what is still to do: calls, tokens, hours, money; ask no model, decode nothing.")
    ] = False,
    scale: Annotated[
        int | None, typer.Option("--clips", min=1, help="With --dry-run: for so many clips like these.")
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="With --dry-run: GPUs of the cluster.")] = 1,
    gpu_price: Annotated[float, typer.Option(min=0, help="With --dry-run: dollars for an hour of a GPU.")] = 0.0,
    as_json: options.Json = False,
) -> None:
    """Caption clips: segment, filter, caption, score, rewrite, check; run again, it goes on where it was stopped.

    OUT/shards/*.parquet are manifests that `peav train`, `prepare` and `eval` read, and so is OUT. What failed is
    listed in OUT/failures.jsonl; `peav caption retry OUT` runs it again.
    """
    from peav.engine.recipe import read_recipe

    changes = dict(
        one.split("=", 1) if "=" in one else fail(f"--set {one}: write KEY=VALUE") for one in overrides or ()
    )
    steps = read_recipe(recipe, changes)
    if dry_run:
        from peav.cli.caption_plan import print_plan
        from peav.engine.plan import plan

        print_plan(plan(clips, folder, steps, limit=limit, clips=scale), devices, gpu_price, as_json)
        return
    summary = run(clips, folder, steps, limit, workers, ray, cpus, gpus)
    report(summary, folder, as_json)


def run(
    clips: list[str],
    folder: Path,
    recipe: EngineRecipe,
    limit: int | None,
    workers: int | None,
    ray: str | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
) -> Summary:
    """Carry a run out with a bar for each step."""
    from peav.engine.ray_runner import on_ray
    from peav.engine.run import caption as carry_out

    with bar() as progress, nullcontext() if ray is None else on_ray(ray, workers, cpus, gpus) as runner:
        tasks: dict[Step, TaskID] = {}

        def show(step: Step, done: Progress, total: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(DOING[step], total=total)
            progress.advance(tasks[step], done.rows)

        return carry_out(clips, folder, recipe, limit=limit, workers=workers, runner=runner, progress=show)


def report(summary: Summary, folder: Path, as_json: bool) -> None:
    """Print how the clips of a run ended."""
    if as_json:
        print_json(summary.as_json())
        return
    out.print(
        f"{counted(summary.done, 'clip')} captioned, {summary.filtered} filtered, {summary.failed} failed: "
        f"{shown(folder / 'shards')}"
    )
    for stage in {**summary.asked, **summary.known}:
        out.print(f"  {stage}: {summary.asked[stage]} asked, {summary.known[stage]} known before", highlight=False)
    if summary.failed:
        out.print(f"[yellow]{summary.failed} failed[/]: see {shown(folder / 'failures.jsonl')}; peav caption retry OUT")
