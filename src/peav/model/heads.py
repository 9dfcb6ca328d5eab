"""Projection heads into the shared space."""

# Shapes: ... stands for (B,) of pooled states and (B, T) of sequences; B clips, T latents at 25 Hz.

from __future__ import annotations

from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """LayerNorm(eps 1e-6), then a Linear without bias. Outputs are not normalized, as in the official models."""

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(input_dim, eps=1e-6)
        self.proj = nn.Linear(input_dim, output_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., input_dim) to (..., output_dim)."""
        return self.proj(self.norm(x))
