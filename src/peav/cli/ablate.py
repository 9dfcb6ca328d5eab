"""`peav ablate`: train the variants of a recipe and compare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peav.cli import options
from peav.cli.console import echo, err, fail, out, print_json, shown
from peav.cli.train import ProgressReporter, training_bar
from peav.utils.text import counted

if TYPE_CHECKING:
    from peav.eval.tables import Table
    from peav.lab.ablate import Outcome, Run


def ablate(
    recipe: Annotated[Path, typer.Argument(help="A YAML file of variants, or a shipped one by its name: ablations.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown on stdout instead of a table.")] = False,
    as_json: options.Json = False,
) -> None:
    """Train every variant of a recipe with every seed, and draw one table and one chart (OUTPUT/ablations.svg).

    Runs that are done are not repeated, a run that was stopped goes on. Given several times at once, the commands share
    the runs; the table holds what is done so far.
    """
    from peav.lab.ablate import ablate as carry_out
    from peav.lab.ablate import outcomes, read_ablations, runs
    from peav.lab.chart import chart
    from peav.train import train
    from peav.utils.storage import write_all

    wanted = read_ablations(recipe)
    total = len({run.recipe.output for run in runs(wanted)})
    with training_bar() as progress:

        def carry(run: Run) -> Mapping[str, Any]:
            err.print(f"{run.group}: {run.variant}, seed {run.seed}", markup=False, highlight=False)
            return train(run.recipe, ProgressReporter(progress), resume=True)

        left = carry_out(wanted, carry)
    found = outcomes(wanted)
    picture = Path(wanted.output) / "ablations.svg"
    write_all(picture, chart(found, wanted.figures))
    table = outcome_table(
        found, wanted.figures, f"R@1 in per cent, mean and range of {counted(len(wanted.seeds), 'seed')}"
    )
    if as_json:
        print_json({"runs": total, "results": table.to_dict(), "chart": str(picture)})
    elif markdown:
        echo(table.to_markdown())
    else:
        out.print(table.to_rich())
        out.print(f"chart: {shown(picture)}")
    if left.elsewhere:
        err.print(
            f"not in the table yet: {counted(len(left.elsewhere), 'run')} that other processes train", highlight=False
        )
    if left.failed:
        fail("; ".join(f"{run.group}: {run.variant}, seed {run.seed}: {error}" for run, error in left.failed))


def outcome_table(found: Sequence[Outcome], figures: Sequence[str], title: str) -> Table:
    """A row for each variant under the name of its group."""
    from peav.eval.tables import Column, Table
    from peav.lab.ablate import described

    columns = (Column("group", "group"), Column("variant", "variant"), *(Column(name, name) for name in figures))
    rows = [
        {"group": one.group, "variant": one.variant} | {name: described(one.figures[name]) for name in figures}
        for one in found
    ]
    return Table(title, columns, rows)
