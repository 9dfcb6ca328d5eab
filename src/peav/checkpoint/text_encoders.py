"""A text encoder by itself: of a PE-AV checkpoint, or ModernBERT (arXiv 2412.13663) as the hub has it."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path

import torch
from tokenizers import Tokenizer

from peav.errors import CheckpointError
from peav.model import TextConfig
from peav.model.text import TextEncoder
from peav.utils.storage import write_all

from . import common_layout, files, hub
from .convert import read_checkpoint
from .fields import Section
from .key_map import Tensors, read_entries, write_entries
from .transformers_configs import MODERNBERT, read_modernbert, write_modernbert

_FREE = {"num_hidden_layers", "max_length"}  # may differ between a checkpoint and the model that takes it over


def load_text_encoder(
    name_or_path: str | os.PathLike[str], config: TextConfig, *, cache_dir: str | os.PathLike[str] | None = None
) -> TextEncoder:
    """A checkpoint's text encoder in fp32, cut to the layers of `config`.

    Args:
        name_or_path: PE-AV or PE-A-Frame in any layout, or ModernBERT, such as `answerdotai/ModernBERT-large`; names as
            in `hub.resolve`.
        config: of the model that takes it over.
        cache_dir: where downloads are kept; None: the hub's own cache.

    Raises:
        CheckpointError: nothing there, a damaged file, or an encoder of other sizes (named).
    """
    directory = hub.resolve(name_or_path, cache_dir=cache_dir)
    data = files.read_json(directory / files.CONFIG)
    if data.get("model_type") == "modernbert":
        found = read_modernbert(Section(data, str(directory / files.CONFIG)), MODERNBERT)
        _check(str(name_or_path), found, config)
        tensors = _modernbert(files.read_tensors(directory), config.num_hidden_layers, str(directory))
    else:
        checkpoint = read_checkpoint(directory)
        _check(str(name_or_path), checkpoint.config.text, config)
        tensors = checkpoint.tensors
    with torch.device("meta"):
        encoder = TextEncoder(config)
    state = {name: tensors[f"text.{name}"].float() for name in encoder.state_dict()}
    encoder.load_state_dict(state, assign=True)
    return encoder


def save_text_encoder(encoder: TextEncoder, tokenizer: Tokenizer, folder: str | os.PathLike[str]) -> None:
    """Write a text encoder and its tokenizer as the hub has ModernBERT; `load_text_encoder` and transformers read it.

    Its final norm, which PE-AV never reads, has ones for weights.
    """
    config, path = encoder.config, Path(folder)
    ours = {f"text.{name}": tensor for name, tensor in encoder.state_dict().items()}
    ours["text.final_norm.weight"] = torch.ones(config.hidden_size)
    theirs, _ = write_entries(common_layout.text(config.num_hidden_layers), ours)
    path.mkdir(parents=True, exist_ok=True)
    tensors = {name.removeprefix("text_model."): tensor for name, tensor in theirs.items()}
    files.write_safetensors(path / "model.safetensors", tensors)
    write_all(path / "tokenizer.json", tokenizer.to_str(pretty=True))
    files.write_json(path / files.CONFIG, write_modernbert(config))  # last: a folder without it holds no checkpoint


def _check(name: str, found: TextConfig, wanted: TextConfig) -> None:
    its, ours = asdict(found), asdict(wanted)
    other = [f"{key} {its[key]} (not {ours[key]})" for key in ours if key not in _FREE and its[key] != ours[key]]
    if found.num_hidden_layers < wanted.num_hidden_layers:
        other.append(f"num_hidden_layers {found.num_hidden_layers} (below {wanted.num_hidden_layers})")
    if other:
        raise CheckpointError(f"{name}: its text encoder is another than the model's: {', '.join(other)}")


def _modernbert(theirs: Tensors, layers: int, source: str) -> Tensors:
    """The embeddings and the first layers, whatever task the file was saved for, under our names."""
    read = re.compile(rf"text_model\.(embeddings|layers\.({'|'.join(map(str, range(layers)))}))\.")
    named = {"text_model." + name.removeprefix("model."): tensor for name, tensor in theirs.items()}
    entries = [entry for entry in common_layout.text(layers) if all(map(read.match, entry.theirs))]
    return read_entries(entries, {name: tensor for name, tensor in named.items() if read.match(name)}, source)
