"""PE-A-Frame: which audio frames a text describes (arXiv 2512.19687, section on frame-level alignment)."""

# Shapes: B clips, S samples, T latents at 25 Hz (frames of 40 ms), N texts, L tokens, D width of a tower, E output_dim.

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import PEAFrameConfig
from .heads import ProjectionHead
from .peav import LOGIT_BIAS_INIT, LOGIT_SCALE_INIT, PEAV, AudioText, AudioTower, initialize
from .text import TextEncoder


class PEAFrame(AudioText):
    """Audio tower's sequence against the text's CLS state, both through their heads."""

    def __init__(self, config: PEAFrameConfig) -> None:
        super().__init__()
        self.config = config
        self.audio = AudioTower(config.audio)
        self.text = TextEncoder(config.text)
        self.heads = nn.ModuleDict(
            {
                "audio": ProjectionHead(config.audio.transformer.hidden_size, config.output_dim),
                "text": ProjectionHead(config.text.hidden_size, config.output_dim),
            }
        )
        self.logit_scale = nn.Parameter(torch.full((1,), LOGIT_SCALE_INIT))
        self.logit_bias = nn.Parameter(torch.full((1,), LOGIT_BIAS_INIT))
        initialize(self)

    @classmethod
    def from_peav(cls, model: PEAV) -> PEAFrame:
        """A model to train on frames: a PE-AV model's audio and text towers with the heads that hold them together.

        Its scores start as the clip-level model read frame by frame, with the scale and bias of audio and its caption.
        """
        config = model.config
        frame = cls(PEAFrameConfig(config.audio, config.text, config.output_dim))
        frame.audio.load_state_dict(model.audio.state_dict())
        frame.text.load_state_dict(model.text.state_dict())
        frame.heads["audio"].load_state_dict(model.heads["audio"].state_dict())
        frame.heads["text"].load_state_dict(model.heads["text_audio"].state_dict())
        # The pair that these two heads were trained on.
        with torch.no_grad():
            frame.logit_scale.copy_(model.logit_scale["a_ac"])
            frame.logit_bias.copy_(model.logit_bias["a_ac"])
        return frame.to(model.logit_bias["a_ac"].device)

    def towers(self) -> list[nn.Module]:
        """The parts that hold nearly all weights, which training in shards gathers one after the other."""
        return [self.text, self.audio.tower]

    def audio_frames(self, latents: Tensor, lengths: Tensor | None = None) -> Tensor:
        """latents (B, T, 128) -> one embedding per 40 ms frame (B, T, output_dim)."""
        return self.heads["audio"](self.audio_hidden(latents, lengths).sequence)

    def text_embedding(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """ids (N, L), mask (N, L) truthy on real tokens -> embeddings (N, output_dim)."""
        return self.heads["text"](self.text_pooled(ids, mask))

    def frame_logits(self, latents: Tensor, lengths: Tensor | None, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Every clip against every text: latents (B, T, 128), ids (N, L) -> logits (B, N, T).

        Frames beyond a clip's length are -inf: a probability of zero, never a detection.
        """
        logits = self.score(self.audio_frames(latents, lengths), self.text_embedding(ids, mask))  # (B, N, T)
        if lengths is None:
            return logits
        padding = torch.arange(logits.shape[-1], device=logits.device) >= lengths[:, None]  # (B, T)
        return logits.masked_fill(padding[:, None], float("-inf"))

    def score(self, frames: Tensor, texts: Tensor) -> Tensor:
        """Frame embeddings (B, T, E) and text embeddings (N, E) -> scaled, biased logits (B, N, T)."""
        return texts @ frames.transpose(1, 2) * self.logit_scale + self.logit_bias  # (N, E) @ (B, E, T)
