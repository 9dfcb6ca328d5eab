"""Networks only: tensors in, tensors out. No files, no hub, no command line."""

from __future__ import annotations

from .config import (
    PRESETS,
    AudioConfig,
    CodecConfig,
    FrameEncoderConfig,
    PEAFrameConfig,
    PEAVConfig,
    TextConfig,
    TransformerConfig,
    VideoConfig,
    preset,
)
from .pairs import PAIRS
from .peaframe import PEAFrame
from .peav import LOGIT_BIAS_INIT, LOGIT_SCALE_INIT, PEAV
from .plm import PLM, PLMConfig
from .transformer import TowerOutput

__all__ = [
    "LOGIT_BIAS_INIT",
    "LOGIT_SCALE_INIT",
    "PAIRS",
    "PEAV",
    "PLM",
    "PRESETS",
    "AudioConfig",
    "CodecConfig",
    "FrameEncoderConfig",
    "PEAFrame",
    "PEAFrameConfig",
    "PEAVConfig",
    "PLMConfig",
    "TextConfig",
    "TowerOutput",
    "TransformerConfig",
    "VideoConfig",
    "preset",
]
