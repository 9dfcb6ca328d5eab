"""A random small PE-A-Frame model with the shipped tokenizer: real towers, nothing learned."""

from __future__ import annotations

from pathlib import Path

import torch

import peav
from peav.checkpoint import load_tokenizer
from peav.detector import Detector
from peav.model import PEAFrame
from peav.model.config import PEAFrameConfig, preset

LABELS = ("dog", "siren", "rain on a roof")


def random_detector(seed: int = 0) -> Detector:
    """The preset `frame-nano` with random weights, scaled so that probabilities spread and change in time."""
    torch.manual_seed(seed)
    config = preset("frame-nano")
    assert isinstance(config, PEAFrameConfig)
    model = PEAFrame(config)
    with torch.no_grad():
        model.audio.tower.data_proj.weight.mul_(0.03)
        model.logit_scale.fill_(0.2)
        model.logit_bias.fill_(-1.2)
    return Detector(model, load_tokenizer(Path(peav.__file__).parent / "weights" / "tiny"), "random")
