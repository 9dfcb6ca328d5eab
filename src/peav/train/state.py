"""Training checkpoints: written whole or not at all, the newest two kept.

Nothing random is stored: which clips, captions and masks a step draws is a function of (seed, step), so the weights,
the optimiser and the step are all that a run is.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

from peav.checkpoint.atomic import atomic_write

KEEP = 2


def save_state(folder: Path, step: int, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Write `step-N.pt`: the state after N steps."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / f"step-{step:07d}.pt") as temporary:
        torch.save({"step": step, "module": module.state_dict(), "optimiser": optimiser.state_dict()}, temporary)
    for path in states(folder)[:-KEEP]:
        path.unlink()


def load_state(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Restore what `save_state` wrote, in place; returns the number of steps done."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(state["module"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def states(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"step-\d{7}\.pt", path.name))
