"""Three hundred steps of a small recipe from the features of 32 clips, on a GPU and on a CPU, for `benchmarks/gpu.sh`.

python benchmarks/gpu_training.py prepare FOLDER    makes clips, a random model, features, and the losses of a CPU
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

CLIPS, STEPS, SECONDS = 32, 300, 4.0


class Silent:
    """Tells nobody anything."""

    def stage(self, name: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, done: int, note: str = "") -> None:
        """Nothing."""

    def step(self, record: Mapping[str, Any]) -> None:
        """Nothing."""


def prepare(folder: Path) -> None:
    """Everything that `run` needs, without the clips' media."""
    from peav.checkpoint import save_pretrained
    from peav.data.manifest import read_manifest
    from peav.features.prepare import prepare as prepare_features
    from peav.inference.tokenizer import train_tokenizer
    from peav.model import PEAV, preset
    from peav.synth.world import generate

    torch.manual_seed(0)
    world = folder / "world"
    rows = read_manifest(generate(world, CLIPS, seed=5))
    for place in ("model", "features", "cpu"):
        shutil.rmtree(folder / place, ignore_errors=True)
    config = preset("nano")
    model = PEAV(config)
    texts = [text for row in rows for some in row.captions.values() for text in some]
    save_pretrained(model, folder / "model", train_tokenizer(texts, config.text.vocab_size))
    prepare_features(rows, str(folder / "features"), model, name="nano", root=world, max_seconds=SECONDS)
    shutil.rmtree(world)
    losses, took = _train(folder, folder / "cpu", STEPS)
    shutil.rmtree(folder / "cpu")
    (folder / "losses.json").write_text(json.dumps({"losses": losses, "seconds": took, "torch": torch.__version__}))
    size = sum(path.stat().st_size for path in (folder / "features").rglob("*"))
    print(f"{len(rows)} clips, {size / 1e6:.1f} MB of features; {STEPS} steps on the CPU in {took:.0f} s")


def run(folder: Path, out: Path, steps: int = STEPS) -> dict[str, Any]:
    """The losses of `steps` steps on this machine's GPU, or CPU, beside those that `prepare` noted."""
    kept = json.loads((folder / "losses.json").read_text())
    losses, took = _train(folder, out, steps)
    beside = list(zip(losses, kept["losses"], strict=False))
    apart = [abs(ours - theirs) / theirs for ours, theirs in beside]
    return {
        "steps": steps,
        "seconds": took,
        "seconds_on_the_cpu_that_prepared": kept["seconds"],
        "first_loss": beside[0],
        "last_loss": beside[-1],
        "largest_difference_in_20_steps": max(apart[:20]),
        "largest_difference": max(apart),
        "losses": losses,
    }


def _train(folder: Path, output: Path, steps: int) -> tuple[list[float], float]:
    from peav.train import train
    from peav.train.recipe import recipe_of

    shutil.rmtree(output, ignore_errors=True)
    recipe = recipe_of(
        {
            "name": "gpu",
            "output": str(output),
            "model": str(folder / "model"),
            "data": {
                "cache": str(output / "cache"),
                "sources": [{"place": str(folder / "features")}],
                "max_seconds": SECONDS,
            },
            "frames": {"frozen": True},
            "objective": {"pairs": "finetune", "auxiliary": {"best_rq": {"weight": 0.1}}},
            "optim": {"steps": steps, "batch_size": 8, "lr": 1e-3, "warmup": 20, "bf16": False},
            "evaluation": {"every": 10 * STEPS, "candidates": 3, "final_candidates": 3},
            "checkpoint_every": STEPS,
        }
    )
    began = time.perf_counter()
    train(recipe, Silent())
    took = time.perf_counter() - began
    lines = (output / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines], took


if __name__ == "__main__":
    if sys.argv[1:2] != ["prepare"] or len(sys.argv) != 3:
        sys.exit(__doc__)
    prepare(Path(sys.argv[2]))
