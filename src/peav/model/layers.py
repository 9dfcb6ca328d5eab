"""Pieces that several towers share: rotary positions, masks, initialization."""

# Shapes: B rows, L positions, D width, d channels of a head, "..." any dimensions.

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

# How many positions the last layer keeps where the CLS alone is asked for. One would do, but products of fewer than
# four rows go by other kernels on a CPU, whose rounding depends on how many clips there are and where the weights lie.
CLS_ROWS = 4


def valid_mask(lengths: Tensor | None, size: int, device: torch.device) -> Tensor | None:
    """(B,) valid lengths to a (B, size) bool mask on `device`, True where valid; None when every position is.

    Lengths in the CPU's memory are looked at there; those on a device make this wait for it.
    """
    # No mask where it hides nothing: attention has faster kernels without one.
    if lengths is None or bool((lengths >= size).all()):
        return None
    return torch.arange(size, device=device) < lengths.to(device)[:, None]


def inverse_frequencies(dim: int, theta: float, device: torch.device) -> Tensor:
    """(dim / 2,) rotary frequencies, always fp32: they must not follow the model into bf16."""
    return 1.0 / theta ** (torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)


def rotations(positions: Tensor, dim: int, theta: float) -> Tensor:
    """(L,) positions to (L, dim / 2) complex64 unit rotations for `rotate_pairs`."""
    angles = positions.float()[:, None] * inverse_frequencies(dim, theta, positions.device)  # (L, dim / 2)
    return torch.polar(torch.ones_like(angles), angles)


def rotate_pairs(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate neighboring channel pairs of x (..., L, d) by `rotation` (L, d / 2): interleaved RoPE, in fp32."""
    # q and k are strided views of one projection: pairing them is three times as fast after a copy.
    pairs = torch.view_as_complex(at_least_fp32(x).contiguous().unflatten(-1, (-1, 2)))  # (..., L, d / 2) complex
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)


def at_least_fp32(x: Tensor) -> Tensor:
    """Half precision to fp32; fp32 and fp64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))  # fp64 stays: in it, tests hold several processes to 1e-12


class RMSNorm(nn.RMSNorm):
    """RMSNorm with its weight in the input's dtype: under autocast torch has no fast kernel for a mixture."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) -> (..., D), in its dtype."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class Recomputed(nn.Module):
    """A layer that, with `recompute` on, keeps its input alone and computes the rest anew in the backward pass."""

    recompute = False

    def __call__(self, *inputs: Any) -> Any:
        """Run the layer, or let autograd run it again when it needs what is inside."""
        if self.recompute and torch.is_grad_enabled():
            # Layers draw nothing at random (no dropout), so that there is no generator's state to keep.
            return checkpoint(super().__call__, *inputs, use_reentrant=False, preserve_rng_state=False)
        return super().__call__(*inputs)


class Attention(nn.Module):
    """Shared head bookkeeping: split a fused projection, attend, merge."""

    fused = False  # in training on a CPU, too, as on other devices: to count what these would do

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def split(self, fused: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(B, L, parts * D) to `parts` tensors (B, heads, L, D / heads)."""
        # (B, L, parts, heads, d) -> (parts, B, heads, L, d)
        return fused.unflatten(-1, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    @staticmethod
    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scaled dot-product attention, heads merged: (B, L, D). `mask` is bool, True where a key may be seen."""
        if q.requires_grad and q.device.type == "cpu" and not Attention.fused:
            # On a CPU the backward pass of the fused kernel is slower than the formula's at short lengths.
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, heads, Lq, Lk)
            # Not -inf, which would make NaN of a query that may see no key; exp(-1e4) is 0 in any dtype.
            scores = scores if mask is None else scores.masked_fill(~mask, -1e4)
            attended = scores.softmax(-1).to(v.dtype) @ v  # (B, heads, Lq, d); autocast gives fp32 shares
        else:
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return attended.transpose(1, 2).flatten(2)  # (B, heads, L, d) -> (B, L, heads * d)


def init_weights(module: nn.Module) -> None:
    """From-scratch initialization: matrices and convolutions keep the variance of their input, biases are zero.

    The customary 0.02 does so at widths near 2500 only; at the width of `tiny` every layer would shrink its signal
    several times over, and the towers learn nothing for hundreds of steps.
    """
    if isinstance(module, nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
        std = module.weight[0].numel() ** -0.5  # of the inputs to one output channel
        nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)
