"""Audio-video fusion: video states resampled to the audio's time base, then a shallow temporal tower."""

# Shapes: B clips, T latents at 25 Hz, N video frames, D width (Da of the audio tower, Dv of the video tower).

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import TransformerConfig
from .transformer import TemporalTower, TowerOutput


def nearest_indices(source: Tensor, target: Tensor, size: int) -> Tensor:
    """Per row, the source position that nearest-neighbor resampling from `source` to `target` positions reads.

    source, target: (B,) lengths; size: positions to give. Returns (B, size) int64, arithmetic in fp32 as
    `F.interpolate(mode="nearest")` does it, so that rows match the original one at a time.
    """
    scale = source.float() / target.clamp(min=1).float()  # (B,); a row of no positions must not divide by zero
    index = (torch.arange(size, device=source.device) * scale[:, None]).floor().long()  # (B, size)
    # Rounding can give the position after the last, and a row without frames gives -1.
    return torch.minimum(index, source[:, None] - 1).clamp(min=0)


class Fusion(nn.Module):
    """1x1 conv on video, nearest resampling, LayerNorm, concatenation with audio, Linear, temporal tower."""

    def __init__(self, config: TransformerConfig, audio_dim: int, video_dim: int) -> None:
        super().__init__()
        # The paper's 1x1 convolution; as a Linear it needs no transpose.
        self.video_proj = nn.Linear(video_dim, audio_dim)
        self.video_norm = nn.LayerNorm(audio_dim)
        self.concat_proj = nn.Linear(2 * audio_dim, config.hidden_size)
        self.tower = TemporalTower(config, config.hidden_size)

    def align(self, video: Tensor, video_lengths: Tensor, audio_lengths: Tensor, size: int) -> Tensor:
        """video (B, N, D) to (B, size, D), each row stretched from its own frames to its own audio steps."""
        index = nearest_indices(video_lengths, audio_lengths, size)  # (B, size)
        return video.gather(1, index[..., None].expand(-1, -1, video.shape[-1]))

    def forward(
        self,
        audio: Tensor,
        audio_lengths: Tensor | None,
        video: Tensor,
        video_lengths: Tensor | None,
        cls_only: bool = False,
    ) -> TowerOutput:
        """audio (B, T, Da) and video (B, N, Dv) sequences with valid lengths (B,) or None; output at T positions,
        or with `cls_only` the pooled state alone.
        """
        steps = audio.shape[1]  # T
        audio_sizes = _sizes(audio, audio_lengths)
        video_sizes = _sizes(video, video_lengths)
        # Done even where T equals N: padded lengths may agree where the rows' own differ (transformers skips it then).
        aligned = self.align(self.video_proj(video), video_sizes, audio_sizes, steps)  # (B, T, Da)
        joint = torch.cat([audio, self.video_norm(aligned)], dim=-1)  # (B, T, 2 Da)
        return self.tower(self.concat_proj(joint), audio_lengths, cls_only)


def _sizes(sequence: Tensor, lengths: Tensor | None) -> Tensor:
    """The valid lengths (B,) of a sequence (B, L, D), on its device."""
    if lengths is None:
        return sequence.new_full((len(sequence),), sequence.shape[1], dtype=torch.long)
    return lengths.to(sequence.device)
