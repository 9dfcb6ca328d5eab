"""`peav train`: carry a recipe out."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import Progress, TaskID, TextColumn
from rich.table import Table

from peav.cli import options
from peav.cli.console import fail, out, print_json, shown
from peav.cli.train_plan import cost_table
from peav.utils.progress import bar

if TYPE_CHECKING:
    from peav.train import Plan

STAGES = {
    "world": "making clips",
    "mixtures": "mixing sounds",
    "codec": "distilling the codec",
    "features": "caching features",
    "frames": "teaching frames words",
    "frame features": "caching frame features",
    "train": "training",
}


def train(
    recipe: Annotated[
        Path, typer.Argument(help="A YAML file, or a shipped recipe by its name: smoke, finetune, tiny.")
    ],
    init: Annotated[
        str | None, typer.Option(help="Fine-tune this checkpoint: tiny, a folder or a hub name (recipes with `tune:`).")
    ] = None,
    revision: options.Revision = None,
    dtype: Annotated[
        Literal["float32", "bfloat16"] | None,
        typer.Option(help="What the towers compute in; the weights stay float32. As the recipe says by default."),
    ] = None,
    cache_dir: options.CacheDir = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Train on these clips in place of the recipe's sources: a manifest, tars (x.tar, 'x-*.tar'), "
            "a folder of recordings, or one that `peav prepare` made."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in the recipe's output folder.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key: --set optim.steps=100 (repeatable).")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Print what it would cost; make nothing, load no weights.")] = False,
    devices: Annotated[int, typer.Option(min=1, help="With --dry-run: how many GPUs share the batch.")] = 1,
    teraflops: Annotated[
        float, typer.Option(min=0.001, help="With --dry-run: what one GPU sustains; 400 is two fifths of an H100.")
    ] = 400.0,
    device_memory: Annotated[float, typer.Option(min=0.001, help="With --dry-run: GiB of one GPU.")] = 80.0,
    network: Annotated[
        float | None, typer.Option(min=0.001, help="With --dry-run: GB a second that one GPU sends.")
    ] = None,
    decode_rate: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="With --dry-run: clips a second that one core decodes; measured on the recipe's clips by default.",
        ),
    ] = None,
    clip_bytes: Annotated[
        float | None, typer.Option(min=1, help="With --dry-run: bytes of a clip's media; measured by default.")
    ] = None,
    clips: Annotated[
        int | None, typer.Option(min=1, help="With --dry-run: how many clips there are; counted by default.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Train a model from a recipe: clips, codec, frame encoder, features, training, held-out retrieval.

    Several processes share each batch under torchrun: `torchrun --nproc-per-node 8 -m peav train mine.yaml`.
    """
    from peav.checkpoint.hub import full_name
    from peav.distributed import ends_all
    from peav.train import Cluster, Media, plan, read_recipe
    from peav.train import train as run

    leads = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started, one reports
    if not leads:
        warnings.simplefilter("ignore", FutureWarning)  # of the recipe, which is every process's
    # JSON is YAML, whatever a path contains.
    if revision is not None and init is None:
        fail("--revision is of the checkpoint that --init names; in a recipe write NAME@REVISION")
    pairs = {} if init is None else {"model": json.dumps(full_name(init, revision))}
    pairs |= {} if dtype is None else {"optim.bf16": json.dumps(dtype == "bfloat16")}
    pairs |= {} if cache_dir is None else {"hub_cache": json.dumps(str(cache_dir))}
    pairs |= {} if data is None else {"data.sources": json.dumps([{"place": data}])}
    pairs |= dict(_split(override) for override in overrides or ())
    with ends_all():
        wanted = read_recipe(recipe, pairs)
    if init is not None and wanted.from_scratch:
        fail(f"--init goes with a recipe that has `tune:` (finetune), `align:` or `captioner:`, and {recipe} has none")
    if dry_run:
        cluster = Cluster(devices, teraflops, device_memory, network)
        stated = Media(None if decode_rate is None else 1 / decode_rate, clip_bytes, clips)
        _print_cost(plan(wanted, cluster=cluster, media=stated), as_json)
        return
    with training_bar(leads) as progress:
        result = run(wanted, ProgressReporter(progress), resume)
    if not leads:
        return
    made = Path(wanted.output) / "model"
    if as_json:
        print_json(result | {"model": str(made)})
    else:
        out.print(result_table(result))
        loads = "peav.load" if wanted.captioner is None else "peav.Captioner.load"
        out.print(f"[bold]the model:[/] {shown(made)}  [dim]for --model, or {loads}[/]", soft_wrap=True)
        out.print(f"[bold]the curves:[/] {shown(made.with_name('curves.html'))}", soft_wrap=True)


def _print_cost(cost: Plan, as_json: bool) -> None:
    """Fails after that where the run cannot be carried out."""
    if as_json:
        print_json(asdict(cost))
    else:
        out.print(cost_table(cost))
    if cost.refused:
        fail("; ".join(cost.refused))


def _split(override: str) -> tuple[str, str]:
    key, equals, value = override.partition("=")
    if not equals:
        raise typer.BadParameter(f"--set {override!r}: write it as key=value")
    return key, value


def training_bar(shown: bool = True) -> Progress:
    """The bar that a `ProgressReporter` draws on, with a note beside it."""
    return bar(shown, TextColumn("{task.fields[note]}"))


class ProgressReporter:
    """One bar a stage; while training, every pair's loss beside it."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task: TaskID | None = None

    def stage(self, name: str, total: int | None) -> None:
        """Begin a bar."""
        self.task = self.progress.add_task(STAGES.get(name, name), total=total, note="")

    def advance(self, done: int, note: str = "") -> None:
        """Move it."""
        assert self.task is not None
        self.progress.update(self.task, completed=done, note=note)

    def step(self, record: Mapping[str, Any]) -> None:
        """Show a step's losses, and the figures of an evaluation."""
        losses = " ".join(f"{name} {loss:.2f}" for name, loss in record["losses"].items())
        self.advance(record["step"], f"loss {record['loss']:.3f}  {losses}")
        if "eval" in record:
            figures = "  ".join(f"{name} {value:.3f}" for name, value in record["eval"].items())
            self.progress.console.print(f"step {record['step']}: {figures}")


def result_table(result: Mapping[str, Any]) -> Table:
    """R@1 by direction (and AUROC of frames, where they trained), a column for each split."""
    wait = f"{100 * result['data_wait']:.1f} % of step time spent waiting for data"
    result = {split: result[split] for split in ("validation", "test")}
    table = Table(title="R@1 on held-out clips" if "t2av" in result["validation"] else "held-out clips")
    table.caption = wait
    table.add_column("figure")
    for split in result:
        table.add_column(split, justify="right")
        table.add_column("x chance", justify="right")
    names = dict.fromkeys(name for figures in result.values() for name in figures)  # a split may lack some
    for name in (name for name in names if not name.endswith("chance")):
        cells = [name]
        for figures in result.values():
            chance, value = figures.get(f"{name}_chance", figures.get("chance")), figures.get(name)
            times = "" if value is None or not chance else f"{value / chance:.1f}"  # of words there is no chance
            cells += ["" if value is None else f"{100 * value:.1f} %", times]
        table.add_row(*cells)
    if not table.rows:
        table.add_row("nothing was held out: give some rows the split validation or test")
    return table
