"""How fast a run is, beside what its devices could do."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from peav.distributed import DistContext
from peav.train.plan import count_step
from peav.train.recipe import Recipe

# Counting a step takes some ten seconds of one core; a run of fewer steps is not slowed for it.
LEAST_STEPS = 1000


@dataclass(frozen=True)
class Meter:
    """Adds to a step's log record what memory it took and how much of the devices' peak it made use of.

    `flops`: of a step, and `peak`: a second, of all processes together; None: not measured.
    """

    device: torch.device
    flops: float | None = None
    peak: float | None = None

    def __call__(self, record: Mapping[str, Any]) -> dict[str, float]:
        """`memory`: GiB, the most that this process has had so far (on a GPU, of the GPU's); `peak_share`."""
        found = {"memory": round(most_memory(self.device) / 2**30, 3)}
        if self.flops is not None and self.peak is not None:
            found["peak_share"] = round(self.flops / self.peak / max(record["seconds"], 1e-3), 4)
        return found


def meter(recipe: Recipe, device: torch.device, dist: DistContext) -> Meter:
    """The meter of a run: of one with few steps, or one that is not planned, of memory alone.

    Processes that share a processor count as one each: its peak is taken of all their threads.
    """
    if not dist.is_main or recipe.optim.steps < LEAST_STEPS or recipe.align or recipe.captioner:
        return Meter(device)
    dtype = torch.bfloat16 if recipe.optim.bf16 else torch.float32
    return Meter(device, count_step(recipe), dist.world_size * matmul_peak(device, dtype))


def matmul_peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.5) -> float:
    """Operations a second of a large matrix product on a device: the best of what `seconds` allow."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, ends = 0.0, time.perf_counter() + seconds
    while not best or time.perf_counter() < ends:
        _wait(device)
        began = time.perf_counter()
        a @ b
        _wait(device)
        best = max(best, 2.0 * size**3 / (time.perf_counter() - began))
    return best


def most_memory(device: torch.device) -> int:
    """Bytes: the most that tensors took on a GPU, or this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
