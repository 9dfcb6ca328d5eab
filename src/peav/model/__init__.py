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
from .peaframe import PEAFrame, Span, extract_spans
from .peav import LOGIT_BIAS_INIT, LOGIT_SCALE_INIT, PAIR_NAMES, PEAV
from .transformer import TowerOutput

__all__ = [
    "LOGIT_BIAS_INIT",
    "LOGIT_SCALE_INIT",
    "PAIR_NAMES",
    "PEAV",
    "PRESETS",
    "AudioConfig",
    "CodecConfig",
    "FrameEncoderConfig",
    "PEAFrame",
    "PEAFrameConfig",
    "PEAVConfig",
    "Span",
    "TextConfig",
    "TowerOutput",
    "TransformerConfig",
    "VideoConfig",
    "extract_spans",
    "preset",
]
