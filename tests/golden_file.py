"""Makes the `golden.json` of a model, as those beside the shipped weights: `python tests/golden_file.py DIRECTORY`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import peav
from peav.checkpoint import load_config
from peav.cli.selfcheck import GOLDEN, outputs
from peav.detector import Detector
from peav.encoder import Encoder
from peav.model import PEAFrameConfig


def write_golden(model: Encoder | Detector, directory: Path) -> None:
    """Write what this machine computes beside the weights."""
    found = {name: [float(f"{value:.6g}") for value in row] for name, row in outputs(model).items()}
    record = {"model_id": model.model_id, "outputs": found}
    (directory / GOLDEN).write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    load = Detector.load if isinstance(load_config(folder), PEAFrameConfig) else peav.load
    write_golden(load(folder, device="cpu"), folder)
