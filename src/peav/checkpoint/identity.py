"""What a model is, told by its weights: equal ids mean comparable embeddings, whatever the models are called."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from peav.model import PEAV, PEAFrame

from .bundle import ModelConfig

# Ids were once of the config and the heads alone, in 16 digits. What the shipped `tiny` made then is still its own.
FORMER = {"50faf5e5c5038d5d22879404a2bb905d": "b5ba1f784f20dafe"}
FORMER_DIGITS = 16


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """One hash of all weights under our names, as float32: the same in every layout and in any dtype that holds them.

    It is the SHA-256 of a line for each tensor, sorted by name: name, shape, and the SHA-256 of its values. Tensors are
    hashed in threads, at more than a gigabyte a second each.
    """

    def line(name: str) -> str:
        values = tensors[name].detach().to("cpu", torch.float32).contiguous()
        return f"{name} {tuple(values.shape)} {hashlib.sha256(values.numpy()).hexdigest()}\n"  # type: ignore[arg-type]

    # hashlib lets other threads run while it hashes.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        lines = pool.map(line, sorted(tensors))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def model_id(config: ModelConfig, weights: str) -> str:
    """32 hexadecimal digits for a config and the `weights_sha256` of its weights."""
    text = json.dumps({"config": _unusual(config), "weights": weights}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def id_of(model: PEAV | PEAFrame) -> str:
    """The id of a model as it is in memory."""
    return model_id(model.config, weights_sha256(model.state_dict()))


def _unusual(config: Any) -> Any:
    """What differs from a config's defaults, so that a field which is added later changes no id."""
    if is_dataclass(config):
        values = {field.name: (getattr(config, field.name), field.default) for field in fields(config)}
        return {name: _unusual(value) for name, (value, default) in values.items() if value != default}
    return float(config) if isinstance(config, int) else config  # 10000 in one layout is 10000.0 in another


def same_model(recorded: str, wanted: str) -> bool:
    """Whether a recorded id, maybe one from before ids covered all weights, is of the model with the id `wanted`."""
    return recorded in (wanted, FORMER.get(wanted))
