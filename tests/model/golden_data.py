"""The golden inputs, cut to each clip's valid length, and every output of PE-AV and PE-A-Frame on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from peav.events import FrameScores, find_events
from peav.model import PEAV, PEAFrame

LAYOUTS = ("perception_models", "transformers")


@dataclass
class Clip:
    """One golden clip alone."""

    waveform: Tensor  # (1, S)
    pixels: Tensor  # (N, 3, 384, 384) in [-1, 1]
    ids: Tensor  # (1, L)


def load_clip(golden: Path, index: int) -> Clip:
    """Clip `index` as golden/README.md says: int16 / 32768, every pixel repeated 4 x 4."""
    data = load_file(golden / "inputs.safetensors")
    samples, frames, tokens = (int(data[k][index]) for k in ("audio_samples", "video_frames", "text_tokens"))
    pixels = (data["frames_uint8"][index, :frames].float() / 255 - 0.5) / 0.5
    return Clip(
        waveform=data["waveform_int16"][index, :, :samples].float() / 32768,
        pixels=pixels.repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2),
        ids=data["input_ids"][index : index + 1, :tokens],
    )


@torch.no_grad()
def run_peav(model: PEAV, clip: Clip) -> dict[str, Tensor]:
    """Every golden output of PE-AV, under its golden name."""
    latents = model.encode_codec(clip.waveform)
    features = model.frame_features(clip.pixels)[None]
    audio, video = model.audio_hidden(latents), model.video_hidden(features)
    fused = model.audio_video_hidden(audio.sequence, None, video.sequence, None)
    hidden = model.text_hidden(clip.ids)
    cls = hidden[:, 0]
    pooled = {
        "audio": audio.pooled,
        "video": video.pooled,
        "audio_video": fused.pooled,
        "text_audio": cls,
        "text_video": cls,
        "text_audio_video": cls,
        "audio_plus_text": torch.cat([audio.pooled, cls], -1),
        "video_plus_text": torch.cat([video.pooled, cls], -1),
    }
    return {head: model.project(state, head) for head, state in pooled.items()} | {
        "codec_latents": latents,
        "audio_frames": audio.sequence,
        "frame_features": torch.nn.functional.normalize(features, dim=-1),  # the original keeps them normalized
        "video_hidden": video.sequence,
        "fusion_hidden": fused.sequence,
        "text_hidden": hidden,
    }


@torch.no_grad()
def run_peaframe(model: PEAFrame, clip: Clip) -> dict[str, Tensor]:
    """Every golden output of PE-A-Frame, under its golden name."""
    latents = model.encode_codec(clip.waveform)
    logits = model.frame_logits(latents, None, clip.ids)[:, 0]
    scores = FrameScores(("text",), logits.sigmoid().numpy(), duration=0.04 * logits.shape[-1])
    return {
        "audio_frames": model.audio_frames(latents),
        "text": model.text_embedding(clip.ids),
        "logits": logits,
        "spans": torch.tensor([(event.onset, event.offset) for event in find_events(scores)]),
    }


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Largest difference over the reference's largest value."""
    assert value.shape == reference.shape, (value.shape, reference.shape)
    return float((value - reference).abs().max() / reference.abs().max())
