"""Several processes, started by torchrun, train one model: DDP or FSDP2, on processors (gloo) or GPUs (nccl)."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from peav.model import PEAV
from peav.objectives.ranks import ALONE, Ranks

Parallel = Literal["ddp", "fsdp"]


def is_alone() -> bool:
    """Whether this process trains by itself, not as one of several that torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1


@contextmanager
def process_group(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun started, and leave them at the end; alone where it started none."""
    if is_alone():
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Long: the first process may make a world and its features while the others wait.
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(days=1))
    try:
        # Its own group: the order of its messages must not depend on when gradients are averaged.
        yield Ranks(dist.get_rank(), dist.get_world_size(), dist.new_group())
    finally:
        dist.destroy_process_group()
        # A handled error may have left cycles that hold a group, whose threads must end before the interpreter does.
        gc.collect()


def local_device(name: str | None = None) -> torch.device:
    """`name`, or this process's GPU where there is one, else the processor."""
    if name is not None:
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def wrap(module: Any, how: Parallel, ranks: Ranks) -> nn.Module:
    """The module whose gradients are averaged over all processes; alone, the module itself."""
    if ranks.size == 1:
        alone: nn.Module = module
        return alone
    if how == "ddp":
        # Which streams a process's part of a batch has, and so which towers run, differs from step to step.
        return DistributedDataParallel(module, find_unused_parameters=True)
    model = module.model
    towers = [model.text, model.audio.tower]
    if isinstance(model, PEAV):
        towers += [model.video.tower, model.fusion]
    for tower in towers:
        fully_shard(tower)
    fully_shard(module)
    if hasattr(module, "embed"):
        register_fsdp_forward_method(module, "embed")
    sharded: nn.Module = module
    return sharded


def full(value: Tensor) -> Tensor:
    """A tensor that processes may hold in shards, whole."""
    return value.full_tensor() if isinstance(value, DTensor) else value
