"""Models from checkpoints and back."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import torch
from tokenizers import Tokenizer

from peav.model import PEAV, PEAFrame
from peav.utils.atomic import atomic_write

from . import files, hub, native
from .card import model_card
from .convert import read_checkpoint, read_config
from .source import ModelConfig, skeleton


def load_model(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> PEAV | PEAFrame:
    """A model in eval mode from a checkpoint of any layout.

    Args:
        name_or_path: a directory, `tiny`, or a hub name; see `hub.resolve`.
        revision: of a hub name; None: `main`.
        device: where to put it.
        dtype: of weights and computation; None: float32, whatever the file holds.

    Raises:
        CheckpointError: nothing there, an unreachable hub, an unknown layout, a missing or unknown tensor (named).
    """
    checkpoint = read_checkpoint(hub.resolve(name_or_path, revision))
    model = skeleton(checkpoint.config)
    # Tensor by tensor, so that the file's memory map and one converted copy are all there ever is.
    state = {
        name: checkpoint.tensors.pop(name).to(device=device, dtype=dtype or torch.float32)
        for name in model.state_dict()
    }
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(True).eval()


def load_config(name_or_path: str | os.PathLike[str], *, revision: str | None = None) -> ModelConfig:
    """What a checkpoint's model is built of; its weights are neither downloaded nor read. Names as in `load_model`.

    Raises:
        CheckpointError: nothing there, an unreachable hub or an unknown layout.
    """
    return read_config(hub.resolve(name_or_path, revision, weights=False))


def save_pretrained(
    model: PEAV | PEAFrame, directory: str | os.PathLike[str], tokenizer: Tokenizer | None = None
) -> Path:
    """Write a model in our layout: config.json, model.safetensors (in the model's dtypes), the tokenizer, a model card.

    Every file is written whole or not at all, config.json last. Returns the directory.
    """
    out = Path(directory)
    files.write_safetensors(out / files.WEIGHTS, model.state_dict())
    if tokenizer is not None:
        with atomic_write(out / files.TOKENIZER) as temporary:
            temporary.write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    with atomic_write(out / files.CARD) as temporary:
        temporary.write_text(model_card(model, out.name, version("peav")), encoding="utf-8")
    files.write_json(out / files.CONFIG, native.write_config(model.config))
    return out
