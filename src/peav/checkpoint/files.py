"""Reading and writing the files of a checkpoint directory."""

from __future__ import annotations

import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer

from peav.utils.atomic import atomic_write

from .entries import Tensors
from .errors import CheckpointError
from .source import Json

CONFIG, WEIGHTS, INDEX, TOKENIZER, CARD = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "README.md",
)
# What a layout has no place for, under our names, so that converting back loses nothing.
EXTRA = "peav_extra.safetensors"
_TOKENIZER_FILES = (TOKENIZER, "tokenizer_config.json", "special_tokens_map.json")


def read_json(path: Path) -> Json:
    """A JSON object from a file. Raises CheckpointError when it is absent or not one."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist: a checkpoint directory holds {CONFIG} and {WEIGHTS}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}): download it again") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds no JSON object: download it again")
    return data


def write_json(path: Path, data: Json) -> None:
    """Write a JSON object, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def read_tensors(directory: Path) -> Tensors:
    """Every tensor of model.safetensors, or of the shards that its index names; memory-mapped, not copied."""
    index = directory / INDEX
    if index.is_file():
        shards = sorted(set(read_json(index)["weight_map"].values()))
        return {name: tensor for shard in shards for name, tensor in read_safetensors(directory / shard).items()}
    return read_safetensors(directory / WEIGHTS)


def read_safetensors(path: Path) -> Tensors:
    """The tensors of one file. Raises CheckpointError when it is absent or damaged."""
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: download the checkpoint again")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error}): download it again") from error


def write_safetensors(path: Path, tensors: Tensors) -> None:
    """Write tensors in their own dtypes, whole or not at all."""
    with atomic_write(path) as temporary:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, temporary, {"format": "pt"})


def copy_tokenizer(source: Path, target: Path) -> None:
    """Take the tokenizer's files along, where there are any."""
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            with atomic_write(target / name) as temporary:
                temporary.write_bytes((source / name).read_bytes())


def load_tokenizer(directory: str | os.PathLike[str]) -> Tokenizer | None:
    """The tokenizer in a checkpoint directory, None when it has none. Raises CheckpointError when it is not JSON."""
    path = Path(directory) / TOKENIZER
    return Tokenizer.from_str(json.dumps(read_json(path))) if path.is_file() else None
