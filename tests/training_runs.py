"""Short training runs for the tests: a recipe file, a reporter that keeps its notes, the losses of a log."""

from __future__ import annotations

import json
from pathlib import Path

import yaml


class Silent:
    def stage(self, name, total) -> None: ...
    def advance(self, done, note="") -> None: ...
    def step(self, record) -> None: ...


class Noting(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def advance(self, done, note="") -> None:
        self.notes += [note] if note else []


def recipe_file(folder: Path, world: Path, name: str, steps: int = 6, **changes) -> Path:
    """A recipe of the smallest preset from random weights, or of `tiny` where parts come from that checkpoint."""
    taken = any("checkpoint" in changes.get(part, {}) for part in ("codec", "frames", "text"))
    values = {
        "name": name,
        "model": "tiny" if taken else "nano",
        "output": str(folder / name),
        "data": {"cache": str(world / "cache"), "sources": [{"place": str(world / "manifest.jsonl")}]},
        "objective": {"auxiliary": {} if "align" in changes else {"best_rq": {"weight": 0.1}}, "pairs": "finetune"},
        "optim": {"steps": steps, "batch_size": 4, "warmup": 2, "bf16": False},
        "evaluation": {"every": 100, "candidates": 4, "final_candidates": 4},
        "checkpoint_every": 2,
    }
    for key, value in changes.items():
        values.setdefault(key, {}).update(value)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def losses(output: Path) -> list[dict[str, float]]:
    return [json.loads(line)["losses"] for line in (output / "log.jsonl").read_text().splitlines()]
