"""One of two processes that are about to train: what `agree_on_start` says where process 1 differs in one thing.

python -m torch.distributed.run --nproc-per-node 2 agreement_worker.py OUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from peav.data.manifest import Row
from peav.distributed import DistContext, process_group
from peav.errors import TrainingError
from peav.train.agreement import agree_on_start


def said(
    dist: DistContext, *, moved: bool = False, fewer: bool = False, later: bool = False, drift: float = 0.0
) -> str:
    """What process 0 and process 1 each say; empty where they agree."""
    other = dist.rank == 1
    folder = Path("/there" if other and moved else "/here")
    rows = [Row(name, audio_path=folder / f"{name}.wav", captions={"audio": [f"a {name}"]}) for name in ("dog", "cat")]
    sources = [rows[1:] if other and fewer else rows, [Row("bird", start=0.5 if other and later else 0.0)]]
    weights = {"scale": torch.ones(3) + (drift if other else 0)}
    try:
        agree_on_start(sources, weights, dist)
    except TrainingError as error:
        return str(error)
    return ""


def main() -> None:
    cases = ({}, {"moved": True}, {"fewer": True}, {"later": True}, {"drift": 1e-7})
    with process_group(torch.device("cpu")) as dist:
        found = [said(dist, **case) for case in cases]  # type: ignore[arg-type]
        Path(f"{sys.argv[1]}-{dist.rank}").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
