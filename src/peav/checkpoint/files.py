"""Reading and writing the files of a checkpoint directory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import torch
from pydantic import StringConstraints
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from peav.errors import CheckpointError
from peav.types import POSTPROCESSING
from peav.utils.atomic import atomic_write
from peav.utils.storage import write_all

from .bundle import Json
from .fields import Section
from .key_map import Tensors, check_names

CONFIG, TOKENIZER, CARD = "config.json", "tokenizer.json", "README.md"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# What a layout has no place for, under our names, so that converting back loses nothing.
EXTRA = "peav_extra.safetensors"
# A file beside the index: its name could lead anywhere else.
ShardName = Annotated[str, StringConstraints(strict=True, pattern=r"^[\w-][\w.-]*\.safetensors$", max_length=255)]
_BESIDE = (TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", POSTPROCESSING)


def read_json(path: Path) -> Json:
    """A JSON object from a file. Raises CheckpointError when it is absent or not one."""
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: a checkpoint directory holds {CONFIG} and {WEIGHTS}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, numbers or nesting without end
        raise CheckpointError(f"{path} is not JSON ({error}): download it again") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds no JSON object: download it again")
    return data


def new_directory(directory: str | os.PathLike[str]) -> Path:
    """A directory to write a checkpoint to. Raises CheckpointError where there is one already."""
    path = Path(directory)
    if (path / CONFIG).exists():
        raise CheckpointError(f"{path} holds a checkpoint already: give another directory")
    return path


def write_json(path: Path, data: Json) -> None:
    """Write a JSON object, whole or not at all."""
    write_all(path, json.dumps(data, indent=2) + "\n")


def read_tensors(directory: Path) -> Tensors:
    """Every tensor of model.safetensors, or of the shards that its index names; memory-mapped, not copied.

    Raises CheckpointError for files that are absent, damaged or elsewhere, and for values that are not finite.
    """
    index = directory / INDEX
    if not index.is_file():
        return read_safetensors(directory / WEIGHTS)
    root = Section(read_json(index), str(index))
    shards: dict[str, set[str]] = {}
    for tensor, shard in root.take(dict[str, ShardName], root.field("weight_map")).items():
        shards.setdefault(shard, set()).add(tensor)
    tensors: Tensors = {}
    for shard, names in sorted(shards.items()):
        held = read_safetensors(directory / shard)
        check_names(names, set(held), f"{directory / shard}, by {INDEX},")
        tensors |= held
    return tensors


def read_safetensors(path: Path) -> Tensors:
    """The tensors of one file. Raises CheckpointError when it is absent, damaged or holds what is no finite number."""
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: download the checkpoint again")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): download it again") from error
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise CheckpointError(f"{path}: {name} holds {tensor.dtype}, no weights: download it again")
        if not _is_finite(tensor):
            raise CheckpointError(f"{path}: {name} holds values that are not finite: download it again")
    return tensors


def _is_finite(tensor: Tensor) -> bool:
    """Whether every value is, in one pass that allocates nothing: what is not shows in the extremes."""
    if not tensor.numel():
        return True
    values = tensor if tensor.element_size() > 1 else tensor.float()  # float8 has no order of its own
    return bool(torch.stack(values.aminmax()).isfinite().all())


def write_safetensors(path: Path, tensors: Tensors) -> None:
    """Write tensors in their own dtypes, whole or not at all."""
    with atomic_write(path) as temporary:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, temporary, {"format": "pt"})


def copy_beside(source: Path, target: Path) -> None:
    """Take the files of the tokenizer and of postprocessing along, where there are any."""
    for name in _BESIDE:
        if (source / name).is_file():
            write_all(target / name, (source / name).read_bytes())


def read_postprocessing(directory: Path) -> Json | None:
    """What a checkpoint says of making events of its scores; None where it says nothing."""
    path = directory / POSTPROCESSING
    return read_json(path) if path.is_file() else None


def load_tokenizer(directory: str | os.PathLike[str], vocab_size: int | None = None) -> Tokenizer | None:
    """The tokenizer in a checkpoint directory, None when it has none.

    Args:
        vocab_size: of the text encoder that it goes with, `config.text.vocab_size`; None: not checked.

    Raises:
        CheckpointError: it is no tokenizer, or has ids that the text encoder has no entry for.
    """
    path = Path(directory) / TOKENIZER
    if not path.exists():
        return None
    text = json.dumps(read_json(path))
    try:
        tokenizer, plain = Tokenizer.from_str(text), Tokenizer.from_str(text)
        plain.no_padding()  # its own may be to any length
        plain.no_truncation()
        # What frames a text need not be in the vocabulary.
        largest = max([*plain.get_vocab().values(), *plain.encode("a word").ids])
    except Exception as error:  # tokenizers raises nothing narrower
        raise CheckpointError(f"{path} is no tokenizer that works ({error}): download it again") from error
    if vocab_size is not None and largest >= vocab_size:
        raise CheckpointError(
            f"{path} has an id {largest}, but text.vocab_size in {CONFIG} is {vocab_size}: it is another model's"
        )
    return tokenizer
