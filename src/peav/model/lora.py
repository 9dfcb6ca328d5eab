"""LoRA (arXiv 2106.09685): linear layers keep their weights and learn a correction of low rank beside them.

Our own, because the `peft` library imports transformers and accelerate, more code than all of peav, for these lines.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALE = 2.0  # of the correction: "alpha = 2 r", the customary choice; another one acts like another learning rate


class LowRank(nn.Linear):
    """`base`, frozen, plus `SCALE * up @ down`, which starts at zero; `down` (rank, in) and `up` (out, rank) train.

    `generator`, on the CPU, decides the start of `down`.
    """

    def __init__(self, base: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__(base.in_features, base.out_features, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.requires_grad_(False)
        like = base.weight.detach()
        start = torch.randn(rank, base.in_features, generator=generator) * base.in_features**-0.5  # (rank, in)
        self.down = nn.Parameter(start.to(like))
        self.up = nn.Parameter(like.new_zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in_features) -> (..., out_features)."""
        return super().forward(x) + SCALE * F.linear(F.linear(x, self.down), self.up)

    def merged(self) -> nn.Linear:
        """A plain layer with the same function."""
        plain = nn.Linear(self.in_features, self.out_features, device="meta")
        plain.weight = nn.Parameter(self.weight.detach() + SCALE * self.up.detach() @ self.down.detach())
        plain.bias = self.bias
        return plain


def add_low_rank(module: nn.Module, rank: int, generator: torch.Generator) -> None:
    """Put a `LowRank` in the place of every linear layer within `module` whose weight trains."""
    for parent, name, linear in _linears(module):
        if linear.weight.requires_grad:
            setattr(parent, name, LowRank(linear, rank, generator))


def merge_low_rank(module: nn.Module) -> None:
    """Put a plain layer in the place of every `LowRank` within `module`; outputs stay, up to rounding."""
    for parent, name, linear in _linears(module):
        if isinstance(linear, LowRank):
            setattr(parent, name, linear.merged())


def _linears(module: nn.Module) -> list[tuple[nn.Module, str, nn.Linear]]:
    return [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear)
    ]
