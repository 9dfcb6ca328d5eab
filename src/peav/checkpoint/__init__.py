"""Checkpoints: our own layout and the two public ones, conversion between them, and the hub."""

from __future__ import annotations

from peav.errors import CheckpointError

from .average import average
from .convert import LAYOUTS, convert
from .files import load_tokenizer
from .hub import resolve
from .load import load_config, load_model, save_pretrained
from .text_encoders import load_text_encoder, save_text_encoder

__all__ = [
    "LAYOUTS",
    "CheckpointError",
    "average",
    "convert",
    "load_config",
    "load_model",
    "load_text_encoder",
    "load_tokenizer",
    "resolve",
    "save_pretrained",
    "save_text_encoder",
]
