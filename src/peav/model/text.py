"""The text tower: ModernBERT (arXiv 2412.13663) up to the layer PE-AV reads, before any final norm."""

# Shapes: B texts, L tokens, D width, d channels of a head, "..." any dimensions.

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import TextConfig
from .layers import CLS_ROWS, Attention, Recomputed, at_least_fp32, inverse_frequencies


def rotary_table(length: int, dim: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """(cos, sin), each (L, d / 2) fp32, for `rotate_halves`."""
    angles = torch.arange(length, device=device, dtype=torch.float32)[:, None] * inverse_frequencies(dim, theta, device)
    return angles.cos(), angles.sin()


def rotate_halves(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate channel i of x (..., L, d) with channel i + d / 2, in fp32."""
    # ModernBERT pairs the two halves of a head, where the towers' `rotate_pairs` takes neighbors.
    cos, sin = table
    first, second = at_least_fp32(x).chunk(2, dim=-1)  # (..., L, d / 2) each
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


class TokenAttention(Attention):
    """Fused-projection attention with rotary positions."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__(config.num_attention_heads)
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.out = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, table: tuple[Tensor, Tensor], mask: Tensor | None, first: int | None = None) -> Tensor:
        """x (B, L, D) -> (B, L, D), or what the first `first` positions see: (B, first, D)."""
        q, k, v = self.split(self.qkv(x), 3)  # (B, heads, L, d) each
        cos, sin = table
        q = rotate_halves(q[:, :, :first], (cos[:first], sin[:first]))  # (B, heads, first, d)
        seen = None if mask is None else mask[:, :, :first]  # (B or 1, 1, first or 1, L)
        return self.out(self.attend(q, rotate_halves(k, table), v, seen))


class GeGLU(nn.Module):
    """gelu(input) * gate, projected back."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.input_gate = nn.Linear(width, 2 * hidden, bias=False)
        self.out = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) -> (..., width)."""
        value, gate = self.input_gate(x).chunk(2, dim=-1)  # (..., hidden) each
        return self.out(F.gelu(value) * gate)


class TextLayer(Recomputed):
    """Pre-norm layer; the first has no attention norm, since the embeddings are normed already."""

    def __init__(self, config: TextConfig, index: int) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.norm1 = nn.LayerNorm(width, eps=eps, bias=False) if index else nn.Identity()
        self.attention = TokenAttention(config)
        self.norm2 = nn.LayerNorm(width, eps=eps, bias=False)
        self.mlp = GeGLU(width, config.intermediate_size)

    def forward(self, x: Tensor, table: tuple[Tensor, Tensor], mask: Tensor | None, first: int | None = None) -> Tensor:
        """x (B, L, D) -> (B, L, D), or its first `first` positions alone."""
        x = x[:, :first] + self.attention(self.norm1(x), table, mask, first)  # (B, first or L, D)
        return x + self.mlp(self.norm2(x))


class TextEncoder(nn.Module):
    """Token ids to hidden states after the last used layer."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=False)
        self.layers = nn.ModuleList(TextLayer(config, i) for i in range(config.num_hidden_layers))

    def forward(self, ids: Tensor, mask: Tensor | None = None, cls_only: bool = False) -> Tensor:
        """ids (B, L) int, mask (B, L) truthy where a token is real (None: all); returns (B, L, D). CLS is `[:, 0]`.

        `cls_only` spares the last layer what the CLS does not need: (B, 1, D).
        """
        config, length = self.config, ids.shape[1]
        valid = None if mask is None or bool(mask.all()) else mask.bool()  # (B, L)
        global_mask, local_mask = self._masks(valid, length, ids.device)
        dim = config.hidden_size // config.num_attention_heads
        # Local and global layers turn at different rates; each table serves all layers of its kind.
        global_table = rotary_table(length, dim, config.global_rope_theta, ids.device)
        local_table = rotary_table(length, dim, config.local_rope_theta, ids.device)
        h = self.norm(self.tokens(ids))  # (B, L, D)
        for index, layer in enumerate(self.layers):
            everywhere = config.is_global(index)
            table, seen = (global_table, global_mask) if everywhere else (local_table, local_mask)
            h = layer(h, table, seen, CLS_ROWS if cls_only and index == len(self.layers) - 1 else None)
        # The last layer kept CLS_ROWS positions; only the first is the CLS.
        return h[:, : 1 if cls_only else None]

    def _masks(self, valid: Tensor | None, length: int, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """Key masks (B or 1, 1, L or 1, L) for global and local layers; None where nothing is hidden."""
        global_mask = None if valid is None else valid[:, None, None]  # (B, 1, 1, L)
        reach = self.config.local_attention // 2
        if length - 1 <= reach:  # no two tokens lie farther apart than a local layer sees
            return global_mask, global_mask
        positions = torch.arange(length, device=device)
        window = ((positions[:, None] - positions).abs() <= reach)[None, None]  # (1, 1, L, L)
        if global_mask is None:
            return None, window
        # A padded query may have no real token in its window; seeing itself keeps its (unused) row finite.
        return global_mask, (window & global_mask) | torch.eye(length, dtype=torch.bool, device=device)
