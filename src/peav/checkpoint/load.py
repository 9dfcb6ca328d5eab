"""Models from checkpoints and back."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from tokenizers import Tokenizer

from peav.model import PEAV, PEAFrame
from peav.types import POSTPROCESSING
from peav.utils.storage import write_all

from . import files, hub, native
from .bundle import Json, ModelConfig, as_dtype, skeleton
from .card import model_card
from .convert import read_checkpoint, read_config
from .identity import weights_sha256


def load_model(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> PEAV | PEAFrame:
    """A model in eval mode from a checkpoint of any layout.

    Args:
        name_or_path: a directory, `tiny`, or a hub name; see `hub.resolve`.
        revision: of a hub name; None: `main`.
        device: where to put it.
        dtype: of weights and computation, such as `"bfloat16"`; None: float32, whatever the file holds.
        cache_dir: where downloads are kept; None: the hub's own cache.

    Raises:
        CheckpointError: nothing there, an unreachable hub, an unknown layout, a missing or unknown tensor (named).
    """
    wanted = as_dtype(dtype)
    checkpoint = read_checkpoint(hub.resolve(name_or_path, revision, cache_dir=cache_dir))
    model = skeleton(checkpoint.config)
    # Tensor by tensor, so that the file's memory map and one converted copy are all there ever is.
    state = {name: checkpoint.tensors.pop(name).to(device=device, dtype=wanted) for name in model.state_dict()}
    # A skeleton has no memory to copy into, so the tensors take the place of its own.
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(True).eval()


def load_config(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> ModelConfig:
    """What a checkpoint's model is built of; its weights are neither downloaded nor read. Names as in `load_model`.

    Raises:
        CheckpointError: nothing there, an unreachable hub or an unknown layout.
    """
    return read_config(hub.resolve(name_or_path, revision, weights=False, cache_dir=cache_dir))


def save_pretrained(
    model: PEAV | PEAFrame,
    directory: str | os.PathLike[str],
    tokenizer: Tokenizer | None = None,
    *,
    name: str | None = None,
    path: str | None = None,
    card: str | None = None,
    postprocessing: Json | None = None,
) -> Path:
    """Write a model in our layout: config.json, model.safetensors (in the model's dtypes), the tokenizer, a model card.

    Every file is written whole or not at all, config.json last; it records a hash of all weights, which is the model's
    identity. The tokenizer is written as it was loaded. Returns the directory.

    Args:
        name: what the card calls the model; None: the directory's name.
        path: what the card loads; None: the directory.
        card: in place of a new one that `card.model_card` writes.
        postprocessing: of a PE-A-Frame model, what `files.read_postprocessing` gives.
    """
    out, tensors = Path(directory), model.state_dict()
    if card is None:
        card = model_card(model, name or out.resolve().name, path or os.fspath(directory))
    files.write_safetensors(out / files.WEIGHTS, tensors)
    if tokenizer is not None:
        write_all(out / files.TOKENIZER, tokenizer.to_str(pretty=True))
    if postprocessing is None:
        (out / POSTPROCESSING).unlink(missing_ok=True)  # of another model, which was here before
    else:
        files.write_json(out / POSTPROCESSING, postprocessing)
    write_all(out / files.CARD, card)
    files.write_json(out / files.CONFIG, native.write_config(model.config, weights_sha256(tensors)))
    return out
