"""LoRA on new labels: accuracy on held-out clips before and after `recipes/finetune.yaml`, and what it cost.

    python benchmarks/finetune.py            (about three minutes on one processor core)

The ten sounds of ESC-10 get names that mean nothing, so that all a model knows of the names it has learned here. It
trains on a plain manifest of sounds and names (two folds); the clips of the third are classified by the names, by the
sounds' own names, to see what was forgotten, and by logistic regression on the embeddings of the two folds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import peav
from peav.checkpoint import load_model
from peav.cli.train import ProgressReporter, training_bar
from peav.data.manifest import Row, write_manifest
from peav.data.recordings import read_recordings
from peav.eval.embedder import FileEmbedder
from peav.eval.protocols import linear_probe, zero_shot
from peav.train import read_recipe, train
from peav.train.train_checkpoint import read_state, states

NAMES = ("velmo", "tarnik", "quissa", "bordal", "fenwy", "jostra", "pulmik", "haxo", "drommel", "sirrup")


def accuracies(model: Path | str, learnt: Sequence[Row], tested: Sequence[Row], names: dict[str, str]) -> list[float]:
    """Of the new names, of the own names, and of logistic regression."""
    embedder = FileEmbedder(peav.load(model))
    labels, known = ([row.extra["label"] for row in rows] for rows in (tested, learnt))
    own = {row.extra["label"]: [row.extra["caption"]] for row in learnt}
    results = (
        zero_shot(embedder, tested, labels, {label: [name] for label, name in names.items()}),
        zero_shot(embedder, tested, labels, own),
        linear_probe(embedder, learnt, known, tested, labels),
    )
    return [result.accuracy for result in results]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, default=Path("../shared/data/esc10"))
    parser.add_argument("--recipe", type=Path, default=Path("recipes/finetune.yaml"))
    parser.add_argument("--init", default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/finetune-names"), help="must not hold a run yet")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder: Path = arguments.folder
    rows = read_recordings(arguments.recordings)
    learnt, tested = ([row for row in rows if row.split == split] for split in ("train", "test"))
    names = dict(zip(sorted({row.extra["label"] for row in rows}), NAMES, strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [{"audio_path": str(row.audio_path), "text": names[row.extra["label"]]} for row in learnt]
    write_manifest(folder / "names.jsonl", pairs)
    settings = {
        "model": json.dumps(arguments.init),
        "data.sources": json.dumps([{"place": str(folder / "names.jsonl")}]),
        "data.cache": json.dumps(str(folder / "cache")),
        "output": json.dumps(str(folder / "run")),
        "seed": str(arguments.seed),
    }
    before = accuracies(arguments.init, learnt, tested, names)
    with training_bar() as progress:
        began = time.process_time()
        train(read_recipe(arguments.recipe, settings), ProgressReporter(progress))
        seconds = time.process_time() - began
    after = accuracies(folder / "run" / "model", learnt, tested, names)
    moments = read_state(states(folder / "run" / "checkpoints")[-1])["optimizer"]["state"].values()
    trained = sum(moment["exp_avg"].numel() for moment in moments)
    total = sum(parameter.numel() for parameter in load_model(arguments.init).parameters())

    table = Table(title=f"{arguments.init}, seed {arguments.seed}")
    table.add_column(f"accuracy on {len(tested)} clips")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    for name, *values in zip(("new names", "own names", "logistic regression"), before, after, strict=True):
        table.add_row(name, *(f"{100 * value:.1f} %" for value in values))
    console = Console()
    console.print(table)
    console.print(f"trained: {trained:,} of {total:,} parameters ({100 * trained / total:.2f} %)")
    console.print(f"CPU seconds: {seconds:.0f}, features of {len(learnt)} clips included")


if __name__ == "__main__":
    main()
