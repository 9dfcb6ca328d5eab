"""One pair against eight: what the smoke recipe retrieves when it trains with A-AC alone, and with all eight.

    python benchmarks/pairs.py            (about six minutes on two processor cores)

The paper's Table 9 in shape: with A-AC alone nothing ties sound to picture, so audio -> video stays at chance.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from peav.cli.train import ProgressReporter, training_bar
from peav.train import read_recipe, train

VARIANTS = {"A-AC alone": "[a_ac]", "all eight": "pretrain"}
DIRECTIONS = ("t2a", "t2av", "a2v", "v2a")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/smoke.yaml"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    table = Table(title=f"R@1 on held-out clips, {arguments.recipe.stem}, seed {arguments.seed}")
    for column in ("pairs", *DIRECTIONS, "chance"):
        table.add_column(column, justify="left" if column == "pairs" else "right")
    for name, pairs in VARIANTS.items():
        changes = {
            "objective.pairs": pairs,
            "seed": str(arguments.seed),
            # Named after all that may differ: a run found there is gone on with.
            "output": f"runs/pairs/{arguments.recipe.stem}-{name.replace(' ', '-')}-{arguments.seed}",
        }
        with training_bar() as progress:
            figures = train(read_recipe(arguments.recipe, changes), ProgressReporter(progress), resume=True)["test"]
        table.add_row(name, *(f"{100 * figures[key]:.1f} %" for key in (*DIRECTIONS, "chance")))
    Console().print(table)


if __name__ == "__main__":
    main()
