"""What the processes of one training run share: a global batch, gradients, and the model whole (DDP) or in shards
(FSDP2); on processors (gloo) or GPUs (nccl), started by torchrun.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as torch_dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from peav.errors import TrainingError
from peav.utils.peers import JOINING, Peers, end_of, tell

Parallel = Literal["ddp", "fsdp"]
TIMEOUT = timedelta(minutes=30)  # of one collective: a checkpoint may be slow to write; who is gone `peers` sees


@dataclass(frozen=True)
class DistContext:
    """This process, number `rank` of `world_size`, and how it talks to the others; alone (the default) it does not.

    `group` is a process group apart from the one that averages gradients: the order of its messages must not depend on
    when gradients are averaged. `peers` is how it knows whether the others are there.
    """

    rank: int = 0
    world_size: int = 1
    group: torch_dist.ProcessGroup | None = None
    peers: Peers | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def all_gather(self, x: Tensor) -> Tensor:
        """(B, ...) of every process to (world_size * B, ...) in rank order; gradients return to their owner, summed."""
        if self.world_size == 1:
            return x
        if x.dtype == torch.bool:
            return self.all_gather(x.to(torch.uint8)).bool()
        return _AllGather.apply(x.contiguous(), self)

    def all_reduce_sum(self, x: Tensor) -> Tensor:
        """The sum of a tensor over all processes, without gradient."""
        return self._all_reduce(x, torch_dist.ReduceOp.SUM)

    def all_reduce_max(self, x: Tensor) -> Tensor:
        """The largest of each element over all processes, without gradient."""
        return self._all_reduce(x, torch_dist.ReduceOp.MAX)

    def gather_text(self, text: str) -> list[str]:
        """A text of every process, in rank order."""
        if self.world_size == 1:
            return [text]
        said: list[Any] = [None] * self.world_size
        torch_dist.all_gather_object(said, text, group=self.group)
        return said

    def apart(self) -> DistContext:
        """The same processes with a group for what is no tensor of the model's, such as batches that a thread loads."""
        return self if self.world_size == 1 else replace(self, group=torch_dist.new_group(backend="gloo"))

    def barrier(self) -> None:
        """Return when every process has come here."""
        if self.world_size > 1:
            torch_dist.barrier(group=self.group)

    def meet(self) -> None:
        """Return when every process has come here, however long that takes; `barrier` has a time-out."""
        if self.peers is None:
            self.barrier()
        else:
            self.peers.meet()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process goes through the block alone, then the others: they find what it has made. All leave it
        together.
        """
        if not self.is_main:
            self.meet()
        yield
        if self.is_main:
            self.meet()
        self.meet()

    def local_shard(self, count: int) -> slice:
        """Which of `count` clips of the global batch this process loads: one in every `world_size`, so that each has
        its share of every source.
        """
        assert count % self.world_size == 0, f"{count} clips do not divide among {self.world_size} processes"
        return slice(self.rank, None, self.world_size)

    def local_rows(self, count: int) -> slice:
        """Where this process's samples stand among `count` gathered ones."""
        assert count % self.world_size == 0, f"{count} samples do not divide among {self.world_size} processes"
        own = count // self.world_size
        return slice(self.rank * own, (self.rank + 1) * own)

    def _all_reduce(self, x: Tensor, operation: Any) -> Tensor:
        # torch reduces in place, and the caller goes on using its own.
        x = x.detach().clone()
        if self.world_size > 1:
            torch_dist.all_reduce(x, operation, group=self.group)
        return x


ALONE = DistContext()


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dist: DistContext) -> Tensor:
        ctx.dist = dist
        gathered = x.new_empty(dist.world_size * len(x), *x.shape[1:])  # (world_size * B, ...)
        torch_dist.all_gather_single(gathered, x, group=dist.group)
        return gathered

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        # Every process computes its own rows of logits, so each holds a part of every sample's gradient.
        upstream = ctx.dist.all_reduce_sum(upstream)
        return upstream[ctx.dist.local_rows(len(upstream))], None


def is_alone() -> bool:
    """Whether this process trains by itself, not as one of several that torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1


@contextmanager
def process_group(device: torch.device) -> Iterator[DistContext]:
    """Join the processes that torchrun started, and leave them at the end; alone where it started none.

    What is raised within the block ends all of them.

    Raises:
        TrainingError: another process has failed or is gone, or does not come within a minute.
    """
    if is_alone():
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = _store(keeps=rank == 0)
    peers = Peers(store, _store(), rank, world_size)
    try:
        peers.join()
        backend = "nccl" if device.type == "cuda" else "gloo"
        inner = torch_dist.PrefixStore("torch", store)
        torch_dist.init_process_group(backend, store=inner, rank=rank, world_size=world_size, timeout=TIMEOUT)
        yield DistContext(rank, world_size, torch_dist.new_group(timeout=TIMEOUT), peers)
    except BaseException as error:
        if (cause := peers.cause(error)) is not None:
            raise TrainingError(cause) from error
        raise
    finally:
        _past.append(rank)
        if torch_dist.is_initialized():
            torch_dist.destroy_process_group()
        peers.leave()
        # A handled error may have left cycles that hold a group, whose threads must end before the interpreter does.
        gc.collect()


@contextmanager
def ends_all() -> Iterator[None]:
    """What is raised within the block, before this process has joined the others, ends all of them."""
    try:
        yield
    except BaseException as error:
        if not is_alone():
            with suppress(RuntimeError):  # nobody keeps a store yet: the others see that this one does not come
                tell(_store(), end_of(int(os.environ["RANK"]), error))
        raise


_past: list[int] = []  # a number for each run that this process has been in: the next one has keys of its own


def _store(keeps: bool = False) -> torch_dist.Store:
    """A connection to what the processes of this run write for each other; torchrun keeps it, or this process."""
    keeps = keeps and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    host, port, wait = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timedelta(seconds=JOINING)
    try:
        store = torch_dist.TCPStore(host, port, None, keeps, wait, wait_for_workers=False, multi_tenant=True)
    except RuntimeError as error:
        raise TrainingError(f"process 0 cannot be reached at {host}:{port} for {JOINING:.0f} s") from error
    return torch_dist.PrefixStore(f"peav/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{len(_past)}", store)


def local_device() -> torch.device:
    """This process's GPU where there is one, else the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def wrap(module: nn.Module, units: Iterable[nn.Module], parallel: Parallel, dist: DistContext) -> nn.Module:
    """The module whose gradients are averaged over all processes; alone, the module itself.

    Args:
        units: the parts of it that FSDP gathers and frees one after the other.
    """
    if dist.world_size == 1:
        return module
    if parallel == "ddp":
        # Which streams a process's part of a batch has, and so which towers run, differs from step to step.
        return DistributedDataParallel(module, find_unused_parameters=True)
    for unit in units:
        fully_shard(unit)
    # What is in no unit (codec, frame encoder, heads, scales) goes with the whole.
    fully_shard(module)
    if hasattr(module, "embed"):
        # FSDP gathers weights for `forward` alone unless told of other methods.
        register_fsdp_forward_method(module, "embed")
    return module


def full(value: Tensor) -> Tensor:
    """A tensor that processes may hold in shards, whole."""
    return value.full_tensor() if isinstance(value, DTensor) else value
