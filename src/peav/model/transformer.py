"""The temporal tower: one block for audio, video and their fusion (DESIGN section 2; arXiv 2512.19687)."""

# Shapes: B rows, T positions of the input, L = T + 1 with the CLS, C or D width, d channels of a head.

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import TransformerConfig
from .layers import CLS_ROWS, Attention, Recomputed, RMSNorm, at_least_fp32, rotate_pairs, rotations, valid_mask


class TowerOutput(NamedTuple):
    """What a tower gives: the CLS state, the rest, and the states half-way up for objectives on details."""

    pooled: Tensor  # (B, D)
    sequence: Tensor  # (B, T, D), or (B, 0, D) of a pass for the CLS alone; beyond a row's length it holds no meaning
    middle: Tensor  # (B, T, D), likewise


class MaskedGroupNorm(nn.GroupNorm):
    """GroupNorm with one group whose statistics see valid positions only, so padding cannot move them."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, C, L), mask (B, 1, L) bool or None; masked positions come out zero."""
        if mask is None:
            return super().forward(x)
        # In fp32, and centered before squaring: E[x^2] - E[x]^2 would cancel most of its digits.
        values = at_least_fp32(x).masked_fill(~mask, 0.0)  # (B, C, L)
        count = mask.sum(dim=(1, 2), keepdim=True) * x.shape[1]  # (B, 1, 1)
        mean = values.sum(dim=(1, 2), keepdim=True) / count  # (B, 1, 1)
        centered = (values - mean).masked_fill(~mask, 0.0)
        variance = centered.square().sum(dim=(1, 2), keepdim=True) / count  # (B, 1, 1)
        normed = centered * torch.rsqrt(variance + self.eps) * self.weight[:, None] + self.bias[:, None]
        return normed.masked_fill(~mask, 0.0).to(x.dtype)


class ConvStem(nn.Module):
    """One residual stem over time: (GroupNorm -> SiLU -> Conv1d k3) twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = MaskedGroupNorm(channels)
        self.conv1 = nn.Conv1d(channels, channels, 3, padding=1)
        self.norm2 = MaskedGroupNorm(channels)
        self.conv2 = nn.Conv1d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, L, C), mask (B, L) bool or None."""
        channel_mask = None if mask is None else mask[:, None]  # (B, 1, L)
        h = x.transpose(1, 2)  # (B, C, L)
        # Beyond a row's end the norm gives 0 and silu(0) is 0: the convolution sees there what its own zero padding
        # shows a row alone.
        h = self.conv1(F.silu(self.norm1(h, channel_mask)))
        h = self.conv2(F.silu(self.norm2(h, channel_mask)))
        return x + h.transpose(1, 2)


class SelfAttention(Attention):
    """Bidirectional attention with RMS-normed queries and keys and interleaved RoPE."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config.num_attention_heads)
        inner = config.num_attention_heads * config.head_dim
        self.qkv = nn.Linear(config.hidden_size, 3 * inner, bias=False)
        self.q_norm = RMSNorm(config.head_dim, eps=config.rms_norm_eps)
        self.k_norm = RMSNorm(config.head_dim, eps=config.rms_norm_eps)
        self.out = nn.Linear(inner, config.hidden_size, bias=False)

    def forward(self, x: Tensor, rotation: Tensor, mask: Tensor | None, first: int | None = None) -> Tensor:
        """x (B, L, D) -> (B, L, D), or what the first `first` positions see: (B, first, D)."""
        q, k, v = self.split(self.qkv(x), 3)  # (B, heads, L, d) each
        q = rotate_pairs(self.q_norm(q[:, :, :first]), rotation[:first])  # (B, heads, first, d)
        k = rotate_pairs(self.k_norm(k), rotation)
        return self.out(self.attend(q, k, v, mask))


class SwiGLU(nn.Module):
    """silu(gate) * up, projected down."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) -> (..., width)."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)  # (..., hidden) each
        return self.down(F.silu(gate) * up)


class Layer(Recomputed):
    """Pre-norm attention and MLP, each with its residual."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.attention = SelfAttention(config)
        self.norm2 = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = SwiGLU(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor, rotation: Tensor, mask: Tensor | None, first: int | None = None) -> Tensor:
        """x (B, L, D) -> (B, L, D), or its first `first` positions alone."""
        x = x[:, :first] + self.attention(self.norm1(x), rotation, mask, first)  # (B, first or L, D)
        return x + self.mlp(self.norm2(x))


class TemporalTower(nn.Module):
    """data_proj -> CLS -> conv stem -> layers -> RMSNorm -> Linear."""

    def __init__(self, config: TransformerConfig, input_dim: int) -> None:
        super().__init__()
        self.config = config
        self.data_proj = nn.Linear(input_dim, config.hidden_size)
        self.cls_token = nn.Parameter(torch.zeros(config.hidden_size))
        self.stem = ConvStem(config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.output = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, lengths: Tensor | None = None, cls_only: bool = False) -> TowerOutput:
        """x (B, T, input_dim) with `lengths` (B,) valid positions a row; None: all are valid. Lengths in the CPU's
        memory spare a GPU a wait.

        `cls_only` spares the last layer what the CLS does not need; the output's `sequence` is then empty.

        Raises ValueError when T exceeds the steps the tower was built for: cut the clip into windows.
        """
        length, most = x.shape[1], self.config.max_steps
        if length > most:
            raise ValueError(f"{length} steps, but a tower takes at most {most}: cut the clip into windows")
        mask = valid_mask(lengths, length, x.device)  # (B, T) or None
        if mask is not None:
            # Padding may hold NaN, and NaN times an attention weight of 0 is NaN.
            x = x.masked_fill(~mask[..., None], 0.0)
            mask = F.pad(mask, (1, 0), value=True)  # (B, L): the CLS is always there
        h = self.data_proj(x)  # (B, T, D)
        h = torch.cat([self.cls_token.expand(len(h), 1, -1), h], dim=1)  # (B, L, D)
        h = self.stem(h, mask)
        # Once for all layers: transformers builds its table again in each, 80 times as slowly.
        rotation = rotations(torch.arange(length + 1, device=h.device), self.config.head_dim, self.config.rope_theta)
        key_mask = None if mask is None else mask[:, None, None]  # (B, 1, 1, L)
        half = len(self.layers) // 2
        for layer in self.layers[:half]:
            h = layer(h, rotation, key_mask)
        middle = h  # (B, L, D)
        for layer in self.layers[half:-1]:
            h = layer(h, rotation, key_mask)
        h = self.layers[-1](h, rotation, key_mask, CLS_ROWS if cls_only else None)
        h = self.output(self.norm(h))  # (B, L or CLS_ROWS, D)
        return TowerOutput(h[:, 0], h[:, 1 : 1 if cls_only else None], middle[:, 1:])
