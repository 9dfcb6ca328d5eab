"""The PE-Core frame encoder (arXiv 2504.13181): a ViT with absolute and 2-D rotary positions and attention pooling."""

# Shapes: M frames, H W pixels, L tokens (the CLS, if there is one, and the patches), D width, d channels of a head.

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import FrameEncoderConfig
from .layers import Attention, Recomputed, rotate_pairs, rotations

ROPE_THETA = 10000.0


def to_pixels(frames: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 frames (M, H, W, 3) to what the encoder takes: (M, 3, H, W) in [-1, 1], computed in float32."""
    # In place, since the float copy is new: uint8 always converts.
    return frames.permute(0, 3, 1, 2).to(torch.float32).div_(255).sub_(0.5).div_(0.5).to(dtype)


class Mlp(nn.Module):
    """Linear -> GELU -> Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) -> (..., width)."""
        return self.fc2(F.gelu(self.fc1(x)))


class PatchAttention(Attention):
    """Self-attention over patches with 2-D rotary positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(heads)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        """x (M, L, D), rotation (L, d / 2) complex -> (M, L, D)."""
        q, k, v = self.split(self.qkv(x), 3)  # (M, heads, L, d) each
        return self.out(self.attend(rotate_pairs(q, rotation), rotate_pairs(k, rotation), v))


class Block(Recomputed):
    """Pre-norm ViT block."""

    def __init__(self, config: FrameEncoderConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.attention = PatchAttention(config.width, config.num_heads)
        self.norm2 = nn.LayerNorm(config.width)
        self.mlp = Mlp(config.width, config.mlp_width)

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        """x (M, L, D), rotation (L, d / 2) complex -> (M, L, D)."""
        x = x + self.attention(self.norm1(x), rotation)
        return x + self.mlp(self.norm2(x))


class AttentionPool(Attention):
    """One learned query attends to every token, then a residual MLP."""

    def __init__(self, config: FrameEncoderConfig) -> None:
        super().__init__(config.pool_heads)
        self.probe = nn.Parameter(torch.zeros(config.width))
        self.q = nn.Linear(config.width, config.width)
        self.kv = nn.Linear(config.width, 2 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width)
        # Always 4: the original gives `mlp_ratio` to the blocks alone.
        self.mlp = Mlp(config.width, int(4 * config.width))

    def forward(self, x: Tensor) -> Tensor:
        """(M, L, D) to (M, D)."""
        # One query, projected once for all frames. The original's nn.MultiheadAttention spends half of the encoder's
        # time in copies in bf16 on a CPU.
        (q,) = self.split(self.q(self.probe)[None, None], 1)  # (1, heads, 1, d)
        k, v = self.split(self.kv(x), 2)  # (M, heads, L, d) each
        pooled = self.out(self.attend(q.expand(len(x), -1, -1, -1), k, v))[:, 0]  # (M, 1, D) -> (M, D)
        return pooled + self.mlp(self.norm(pooled))


class FrameEncoder(nn.Module):
    """Square RGB frames in [-1, 1] to one feature vector each."""

    def __init__(self, config: FrameEncoderConfig) -> None:
        super().__init__()
        self.config = config
        width, tokens = config.width, config.grid**2 + config.use_cls_token
        self.patch_embed = nn.Conv2d(3, width, config.patch_size, stride=config.patch_size, bias=False)
        self.cls_token = nn.Parameter(torch.zeros(width)) if config.use_cls_token else None
        self.position = nn.Parameter(torch.zeros(tokens, width))
        self.norm_pre = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm_post = nn.LayerNorm(width)
        self.pool = AttentionPool(config)
        self.proj = nn.Linear(width, config.output_dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (M, 3, H, W), H and W multiples of the patch size; returns (M, output_dim), not normalized."""
        x = self.patch_embed(pixels)  # (M, D, rows, columns)
        rows, columns = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2)  # (M, rows * columns, D)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), 1, -1), x], dim=1)  # (M, L, D)
        x = self.norm_pre(x + self._positions(rows, columns))
        rotation = self._rotation(rows, columns, x.device)  # (L, d / 2) complex
        for block in self.blocks:
            x = block(x, rotation)
        return self.proj(self.pool(self.norm_post(x)))

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Absolute positions (L, D), bilinearly stretched when the grid is not the native one, as the original does."""
        grid = self.config.grid
        if (rows, columns) == (grid, grid):
            return self.position
        extra = int(self.config.use_cls_token)
        table = self.position[extra:].unflatten(0, (grid, grid)).permute(2, 0, 1)[None]  # (1, D, grid, grid)
        table = F.interpolate(table, size=(rows, columns), mode="bilinear", align_corners=False)
        return torch.cat([self.position[:extra], table[0].flatten(1).T])  # (L, D)

    def _rotation(self, rows: int, columns: int, device: torch.device) -> Tensor:
        """2-D rotations (L, d / 2): x in the first half of the pairs, y in the second; the CLS token stays put."""
        # With a CLS, which has (0, 0), patches count from 1, as in the original.
        offset, half = int(self.config.use_cls_token), self.config.width // self.config.num_heads // 2
        across = rotations(torch.arange(columns, device=device) + offset, half, ROPE_THETA)  # (columns, d / 4)
        down = rotations(torch.arange(rows, device=device) + offset, half, ROPE_THETA)  # (rows, d / 4)
        grid = torch.cat([across.expand(rows, -1, -1), down[:, None].expand(-1, columns, -1)], dim=-1).flatten(0, 1)
        return F.pad(grid, (0, 0, offset, 0), value=1.0)  # a rotation by nothing, for the CLS
