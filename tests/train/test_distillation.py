"""The distilled codec: its start is scaled, and it learns what it is asked to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from peav.data.manifest import read_manifest
from peav.model import PEAV, preset
from peav.train.codec import FRAMES_PER_LATENT, MELS, LogMel, distil_codec, scale_convolutions
from peav.train.recipe import Codec


@pytest.fixture
def model() -> PEAV:
    torch.manual_seed(0)
    return PEAV(preset("tiny"))


def test_scaling_gives_every_convolution_outside_the_residual_branches_unit_power(model: PEAV) -> None:
    waveform = torch.randn(2, 9600) * 0.1
    scale_convolutions(model, waveform)
    power: dict[str, torch.Tensor] = {}
    for name, module in model.audio.codec.named_modules():
        if isinstance(module, nn.Conv1d):
            module.register_forward_hook(lambda _m, _i, out, name=name: power.update({name: out.square().mean()}))
    model.encode_codec(waveform)
    for name, value in power.items():
        assert float(value.sqrt()) == pytest.approx(1 / 3 if ".units." in name else 1.0, rel=1e-3), name


def test_log_mel_frames_line_up_with_latents() -> None:
    mel = LogMel(48000, 1920)
    tone = torch.zeros(1, 1920 * 6)
    tone[:, 1920 * 3 : 1920 * 4] = torch.sin(torch.arange(1920) * 2 * np.pi * 1000 / 48000)
    energy = mel(tone).view(6, FRAMES_PER_LATENT, MELS).amax((1, 2))
    assert mel(tone).shape == (1, 6, FRAMES_PER_LATENT * MELS)
    assert int(energy.argmax()) == 3


@pytest.mark.slow
def test_distilling_lowers_the_error_of_the_log_mel_readout(model: PEAV, world: Path) -> None:
    rows = [row for row in read_manifest(world / "manifest.jsonl") if row.captions.get("audio")]
    errors: list[float] = []
    last = distil_codec(model, rows, Codec(distil_steps=24, distil_batch=4), 0, lambda _, e: errors.append(e))
    assert len(errors) == 24
    assert last < 0.8 * np.mean(errors[:4])
