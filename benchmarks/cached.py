"""Training from a prepared cache against training from media: samples a CPU-second, and waiting for data.

    python benchmarks/cached.py            (about two minutes on one processor core)

The same clips of the world and the same small recipe, twice: once decoding every clip and running the frozen codec and
frame encoder at each step, once from the shards of `peav prepare`. Both losses must be the same to the last digit. The
first step of each is left out; making the shards is shown apart.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.table import Table

import peav.train.run as run
from peav.checkpoint import load_model
from peav.data.manifest import Row, read_manifest
from peav.features.extract import ClipFeatures
from peav.features.prepare import prepare
from peav.features.store import FeatureCache
from peav.synth.world import generate
from peav.train import read_recipe, train


class Uncached(FeatureCache):
    """Keeps nothing: features are computed from the media whenever they are asked for."""

    def prepare(
        self, rows: Sequence[Row], progress: Callable[[int], None] = lambda done: None, workers: int = 2
    ) -> tuple[list[Row], list[tuple[Row, str]]]:
        return list(rows), []

    def with_frozen_frames(self) -> FeatureCache:
        return self

    def load(self, row: Row) -> ClipFeatures:
        return self.extract.encode_frames(self.extract(row))


class Clock:
    """Notes CPU time, wall time and the record after each step."""

    def __init__(self) -> None:
        self.cpu: list[float] = []
        self.records: list[Mapping[str, Any]] = []

    def stage(self, name: str, total: int | None) -> None: ...

    def advance(self, done: int, note: str = "") -> None: ...

    def step(self, record: Mapping[str, Any]) -> None:
        self.cpu.append(time.process_time())
        self.records.append(record)

    def seconds(self) -> float:
        """CPU seconds a step, the first left out."""
        return (self.cpu[-1] - self.cpu[0]) / (len(self.cpu) - 1)

    def waiting(self) -> float:
        """Share of the steps' wall time, the first left out, in which the trainer waited for data."""
        return sum(r["wait"] for r in self.records[1:]) / sum(r["seconds"] for r in self.records[1:])


def recipe(folder: Path, name: str, source: Mapping[str, str], steps: int, batch: int) -> Any:
    values = {
        "name": name,
        "output": str(folder / name),
        "data": {"cache": str(folder / "cache"), "sources": [dict(source)], "transcript_share": 0.25},
        "codec": {"checkpoint": "tiny"},
        "frames": {"checkpoint": "tiny", "num_frames": 24, "frozen": True},
        "objective": {"loss": "infonce"},
        "optim": {"steps": steps, "batch_size": batch, "warmup": 2},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return read_recipe(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        generate(folder / "world", arguments.clips, 3, splits=("train",))
        manifest = folder / "world" / "manifest.jsonl"
        began = time.process_time()
        frozen = load_model("tiny").float()
        prepare(read_manifest(manifest), str(folder / "shards"), frozen, name="tiny", root=manifest.parent, jobs=1)
        preparing = time.process_time() - began
        clocks = {"media": Clock(), "cache": Clock()}
        cached, run.FeatureCache = run.FeatureCache, Uncached
        train(recipe(folder, "media", {"place": str(manifest)}, arguments.steps, arguments.batch), clocks["media"])
        run.FeatureCache = cached
        shards = {"place": str(folder / "shards")}
        train(recipe(folder, "cache", shards, arguments.steps, arguments.batch), clocks["cache"])
    losses = [[record["losses"] for record in clock.records] for clock in clocks.values()]
    rates = {name: arguments.batch / clock.seconds() for name, clock in clocks.items()}
    result = {
        "samples_per_cpu_second": rates,
        "times_faster": rates["cache"] / rates["media"],
        "data_wait": {name: clock.waiting() for name, clock in clocks.items()},
        "preparing_cpu_seconds_a_clip": preparing / arguments.clips,
        "same_losses": losses[0] == losses[1],
    }
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    table = Table(title=f"{arguments.clips} clips, batches of {arguments.batch}, {arguments.steps} steps")
    for column in ("training from", "samples a CPU-second", "waiting for data"):
        table.add_column(column, justify="left" if column == "training from" else "right")
    for name, clock in clocks.items():
        table.add_row(name, f"{rates[name]:.1f}", f"{100 * clock.waiting():.2f} %")
    console = Console()
    console.print(table)
    console.print(f"{result['times_faster']:.1f} times the samples; losses the same: {result['same_losses']}")
    console.print(f"preparing: {result['preparing_cpu_seconds_a_clip']:.2f} CPU-seconds a clip, once")


if __name__ == "__main__":
    main()
