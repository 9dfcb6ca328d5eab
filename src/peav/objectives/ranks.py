"""The processes that share a global batch, each with an equal part of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Ranks:
    """This process among `size`; `group` is a process group of its own, apart from the one that averages gradients.

    Alone (the default) nothing is communicated.
    """

    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None

    def gather(self, x: Tensor) -> Tensor:
        """(B, ...) of every process to (size * B, ...) in rank order; gradients return to their owner, summed."""
        if self.size == 1:
            return x
        if x.dtype == torch.bool:
            return self.gather(x.to(torch.uint8)).bool()
        return _Gather.apply(x.contiguous(), self)

    def total(self, x: Tensor) -> Tensor:
        """The sum of a tensor over all processes, without gradient."""
        return self._reduced(x, dist.ReduceOp.SUM)

    def largest(self, x: Tensor) -> Tensor:
        """The largest of each element over all processes, without gradient."""
        return self._reduced(x, dist.ReduceOp.MAX)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            dist.barrier(group=self.group)

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        """The first process goes through the block alone, then the others: they find what it has made."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def deal(self, count: int) -> slice:
        """Which of `count` clips of the global batch this process takes: one in every `size`, so that each process has
        its share of every source."""
        assert count % self.size == 0, f"{count} clips do not divide among {self.size} processes"
        return slice(self.rank, None, self.size)

    def part(self, count: int) -> slice:
        """Where this process's samples stand among `count` gathered ones."""
        assert count % self.size == 0, f"{count} samples do not divide among {self.size} processes"
        own = count // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def _reduced(self, x: Tensor, operation: Any) -> Tensor:
        x = x.detach().clone()
        if self.size > 1:
            dist.all_reduce(x, operation, group=self.group)
        return x


ALONE = Ranks()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        gathered = x.new_empty(ranks.size * len(x), *x.shape[1:])
        dist.all_gather_single(gathered, x, group=ranks.group)
        return gathered

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        # Every process computes its own rows of logits, so each holds a part of every sample's gradient.
        upstream = ctx.ranks.total(upstream)
        return upstream[ctx.ranks.part(len(upstream))], None
