"""PE-AV: audio, video and text towers, their fusion and the heads into one space (arXiv 2512.19687)."""

# Shapes: B clips or texts, S samples, T latents at 25 Hz, N video frames, M frames of any number of clips, H W pixels,
# L tokens, D width of a tower (Da audio, Dv video), F width of a frame's features.

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .codec import Codec
from .config import AudioConfig, PEAVConfig, VideoConfig
from .frame_encoder import FrameEncoder
from .fusion import Fusion
from .heads import ProjectionHead
from .layers import Recomputed, init_weights
from .pairs import PAIRS
from .text import TextEncoder
from .transformer import TemporalTower, TowerOutput

# SigLIP's; a run sets those of untrained pairs anew by its first batch (train.contrastive_module).
LOGIT_SCALE_INIT, LOGIT_BIAS_INIT = 10.0, -10.0


class AudioTower(nn.Module):
    """Codec and temporal tower."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.codec = Codec(config.codec)
        self.tower = TemporalTower(config.transformer, config.codec.latent_dim)


class VideoTower(nn.Module):
    """Frame encoder, projection of its normalized features, temporal tower."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        width = config.transformer.hidden_size
        self.frame_encoder = FrameEncoder(config.frame_encoder)
        self.proj = nn.Linear(config.frame_encoder.output_dim, width, bias=False)
        self.tower = TemporalTower(config.transformer, width)


def initialize(model: nn.Module) -> None:
    """From-scratch initialization: `init_weights`, 0.02 for learned tokens, ones for norms and Snake."""
    if next(model.parameters()).is_meta:
        return  # a skeleton to load weights into
    model.apply(init_weights)
    for name, parameter in model.named_parameters():
        if name.endswith(("cls_token", "position", "probe")):
            nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04)


class AudioText(nn.Module):
    """What PE-AV and PE-A-Frame do alike."""

    audio: AudioTower
    text: TextEncoder

    def encode_codec(
        self, waveform: Tensor, lengths: Tensor | None = None, *, chunk_steps: int | None = None
    ) -> Tensor:
        """waveform (B, S) at 48 kHz, `lengths` in samples (whole hops) -> latents (B, S / 1920, 128).

        Runs in windows of bounded memory; see `Codec.forward`. Raises ValueError on a part of a hop.
        """
        return self.audio.codec(waveform, lengths, chunk_steps=chunk_steps)

    def audio_hidden(self, latents: Tensor, lengths: Tensor | None = None) -> TowerOutput:
        """latents (B, T, 128), `lengths` in latent steps -> pooled (B, D) and sequence (B, T, D)."""
        return self.audio.tower(latents, lengths)

    def text_pooled(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """ids (B, L), mask (B, L) truthy on real tokens -> the text tower's CLS (B, D), before any final norm."""
        return self.text(ids, mask, cls_only=True)[:, 0]  # (B, 1, D) -> (B, D)


class PEAV(AudioText):
    """The networks of PE-AV: tensors in, tensors out.

    Everywhere `lengths` are the valid lengths per row (None: all valid), and a row's output equals the same clip alone
    to 1e-5 relative whatever the padding.
    """

    def __init__(self, config: PEAVConfig) -> None:
        super().__init__()
        self.config = config
        audio, video = config.audio.transformer.hidden_size, config.video.transformer.hidden_size
        fusion, text = config.fusion.hidden_size, config.text.hidden_size
        self.audio = AudioTower(config.audio)
        self.video = VideoTower(config.video)
        self.fusion = Fusion(config.fusion, audio, video)
        self.text = TextEncoder(config.text)
        widths = {
            "audio": audio,
            "video": video,
            "audio_video": fusion,
            "text_audio": text,
            "text_video": text,
            "text_audio_video": text,
            "audio_plus_text": audio + text,  # media first, as the official weights have it
            "video_plus_text": video + text,
        }
        self.heads = nn.ModuleDict({name: ProjectionHead(width, config.output_dim) for name, width in widths.items()})
        self.logit_scale = nn.ParameterDict({name: torch.full((1,), LOGIT_SCALE_INIT) for name in PAIRS})
        self.logit_bias = nn.ParameterDict({name: torch.full((1,), LOGIT_BIAS_INIT) for name in PAIRS})
        initialize(self)

    def towers(self) -> list[nn.Module]:
        """The parts that hold nearly all weights, which training in shards gathers one after the other."""
        return [self.text, self.audio.tower, self.video.tower, self.fusion]

    def recompute_layers(self, on: bool = True) -> None:
        """Trade time for memory in training: every layer's insides are computed again in the backward pass."""
        for module in self.modules():
            if isinstance(module, Recomputed):
                module.recompute = on

    def frame_features(self, pixels: Tensor) -> Tensor:
        """pixels (M, 3, H, W) in [-1, 1] -> PE-Core features (M, F), not normalized."""
        return self.video.frame_encoder(pixels)

    def video_hidden(self, features: Tensor, lengths: Tensor | None = None) -> TowerOutput:
        """Frame features (B, N, F), `lengths` in frames -> pooled (B, D) and sequence (B, N, D)."""
        return self.video.tower(self.video.proj(F.normalize(features, dim=-1)), lengths)  # input (B, N, Dv)

    def audio_video_hidden(
        self,
        audio_sequence: Tensor,
        audio_lengths: Tensor | None,
        video_sequence: Tensor,
        video_lengths: Tensor | None,
        cls_only: bool = False,
    ) -> TowerOutput:
        """Tower sequences (B, T, Da) and (B, N, Dv) -> fused pooled (B, D) and sequence (B, T, D).

        `cls_only` leaves out what the pooled state does not need: the sequence is then empty.
        """
        return self.fusion(audio_sequence, audio_lengths, video_sequence, video_lengths, cls_only)

    def text_hidden(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """ids (B, L), mask (B, L) truthy on real tokens -> hidden states (B, L, D) before any final norm."""
        return self.text(ids, mask)

    def project(self, pooled: Tensor, head: str) -> Tensor:
        """pooled (..., width of the head) -> embedding (..., output_dim), not normalized.

        head: audio, video, audio_video, text_audio, text_video, text_audio_video, audio_plus_text, video_plus_text;
        the last two take `cat([media, text], -1)`. Raises KeyError for any other name.
        """
        return self.heads[head](pooled)
