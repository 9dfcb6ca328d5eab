"""`peav caption --dry-run`: what a run would take, as a table or as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from peav.cli.console import escape, out, print_json
from peav.utils.text import counted

if TYPE_CHECKING:
    from peav.engine.plan import Plan, StepPlan


def print_plan(plan: Plan, devices: int, gpu_price: float, as_json: bool) -> None:
    """What a run takes on so many GPUs, of which an hour costs `gpu_price` dollars."""
    days, rent = plan.gpu_hours / devices / 24, plan.gpu_hours * gpu_price
    if as_json:
        sums = {"gpu_hours": plan.gpu_hours, "worker_hours": plan.worker_hours}
        print_json(asdict(plan) | sums | {"dollars": plan.dollars, "gpu_dollars": rent, "gpu_days": days})
        return
    scaled = f", figures for {plan.scaled_to:,} clips" if plan.scaled_to else ""
    out.print(
        f"{counted(plan.rows, 'row')}, {counted(plan.clips, 'clip')}, {counted(plan.partitions, 'partition')}{scaled}; "
        f"{_figure(plan.media_hours)} hours of media",
        highlight=False,
    )
    table = Table(box=None, header_style="dim")
    table.add_column("step")
    for name in ("calls", "known", "prompt tokens", "of them shared", "output tokens", "worker h", "GPU h", "$"):
        table.add_column(name, justify="right")
    for step in plan.steps:
        table.add_row(escape(step.name), *_cells(step))
    table.add_row("together", "", "", "", "", "", *map(_figure, (plan.worker_hours, plan.gpu_hours, plan.dollars)))
    out.print(table)
    if plan.gpu_hours:
        out.print(f"on {counted(devices, 'GPU')}: {_figure(days)} days, ${_figure(rent)}", highlight=False)
    for name, size in (("files", plan.media_bytes), ("shards and journals", plan.run_bytes)):
        if size is not None:
            out.print(f"{name}: {_figure(size / 1e9)} GB", highlight=False)
    for said in plan.assumptions:
        out.print(f"[dim]- {escape(said)}[/]", highlight=False)


def _cells(step: StepPlan) -> list[str]:
    about = "~" if step.tokens_by == "estimate" else ""
    tokens = [about + _tokens(count) for count in (step.prompt_tokens, step.shared_tokens, step.output_tokens)]
    nobody = "?" if step.seconds_by is None and step.calls else ""
    hours = [nobody if one is None else _figure(one) for one in (step.worker_hours, step.gpu_hours)]
    return [f"{step.calls:,}", f"{step.known:,}", *(tokens if step.tokens_by else [""] * 3), *hours,
            _figure(step.dollars) if step.tokens_by else ""]  # fmt: skip


def _tokens(count: int) -> str:
    return f"{count / 1e6:,.0f} M" if count >= 1e7 else f"{count:,}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or not value else f"{value:.3g}"
