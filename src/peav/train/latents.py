"""What the towers hear: latents as they were stored, or those that the codec makes of waveforms in the step."""

from __future__ import annotations

from torch import Tensor

from peav.model import PEAV, PEAFrame


def latents_of(model: PEAV | PEAFrame, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Latents (B, T, latent_dim) and how many of the T count in each row, (B,).

    Args:
        audio: latents already, or waveforms (B, S). lengths: (B,) latents or samples.
    """
    if audio.dim() == 3:
        return audio, lengths
    # A frozen codec keeps nothing for the backward pass: none of its weights needs a gradient.
    return model.encode_codec(audio, lengths), lengths // model.config.audio.codec.hop_length
