"""Checkpoints in and out of every layout, and between them without loss."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from peav.errors import CheckpointError

from . import files, hub, native, perception_models, transformers
from .bundle import Checkpoint, Json, ModelConfig, as_dtype, is_filler, of_later_pairs, parameter_shapes
from .identity import model_id, weights_sha256
from .key_map import Tensors, check_names, read_entries, shorten, write_entries
from .processors import read_processors, write_processors

Layout = Literal["peav", "perception_models", "transformers"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


def detect_layout(config: Json) -> Layout:
    """Which layout a config.json is of. Raises CheckpointError for any other."""
    modules: dict[Layout, Any] = {"peav": native, "transformers": transformers, "perception_models": perception_models}
    for layout, module in modules.items():
        if module.is_layout(config):
            return layout
    raise CheckpointError(f"config.json is of none of the layouts {', '.join(LAYOUTS)}: is this a PE-AV checkpoint?")


def read_checkpoint(directory: Path) -> Checkpoint:
    """A checkpoint of any layout, under our names. Raises CheckpointError naming what is missing, unknown or wrong."""
    data, source = files.read_json(directory / files.CONFIG), str(directory)
    config, layout = _read_config(data, directory), detect_layout(data)
    theirs = files.read_tensors(directory)
    shapes = parameter_shapes(config)
    if layout == "peav":
        check_names(set(shapes) - of_later_pairs(theirs), set(theirs), source)
        tensors = theirs
    elif layout == "transformers":
        tensors = read_entries(transformers.key_map(config), transformers.canonical_names(theirs), source)
    else:
        entries = perception_models.key_map(config, perception_models.text_layers(data))
        tensors = read_entries(entries, theirs, source)
    checkpoint = Checkpoint(config, tensors | _extra(directory, tensors))
    checkpoint.add_missing()
    _check_shapes(checkpoint, shapes, source)
    return checkpoint


def read_config(directory: Path) -> ModelConfig:
    """The model of a checkpoint of any layout, told without its weights. Raises CheckpointError for other files."""
    return _read_config(files.read_json(directory / files.CONFIG), directory)


def _read_config(data: Json, directory: Path) -> ModelConfig:
    layout, source = detect_layout(data), str(directory / files.CONFIG)
    if layout == "peav":
        return native.read_config(data, source)
    if layout == "transformers":
        return transformers.read_config(data, read_processors(directory), source)
    return perception_models.read_config(data, source)


def read_model_id(directory: Path) -> str:
    """The id of a checkpoint's model: of the hash that was recorded when it was saved, or of the weights themselves.

    Ids of one model are equal in all layouts, and in every dtype that holds its weights without loss. (The official
    PE-AV repositories hold ten logit scales in their original layout and four in that of transformers: two models.)
    """
    data = files.read_json(directory / files.CONFIG)
    if native.is_layout(data) and (recorded := native.read_weights_sha256(data)) is not None:
        return model_id(_read_config(data, directory), recorded)
    checkpoint = read_checkpoint(directory)
    names = parameter_shapes(checkpoint.config)
    return model_id(checkpoint.config, weights_sha256({name: checkpoint.tensors[name] for name in names}))


def _check_shapes(checkpoint: Checkpoint, shapes: dict[str, torch.Size], source: str) -> None:
    for name, shape in shapes.items():
        found = checkpoint.tensors[name].shape
        if found != shape:
            raise CheckpointError(
                f"{source}: {name} has shape {tuple(found)} where config.json asks for {tuple(shape)}: "
                "config and weights are of different models"
            )


def _extra(directory: Path, tensors: Tensors) -> Tensors:
    path = directory / files.EXTRA
    extra = files.read_safetensors(path) if path.is_file() else {}
    if twice := set(extra) & set(tensors):
        raise CheckpointError(f"{path} repeats {shorten(twice)}: it belongs to another checkpoint; delete it")
    return extra


def write_checkpoint(checkpoint: Checkpoint, directory: Path, layout: Layout) -> None:
    """Write a checkpoint in a layout; what the layout has no place for goes into `peav_extra.safetensors` beside it.

    The config comes last, so that a directory with a config is whole. Raises CheckpointError for sizes that the layout
    cannot express.
    """
    config = checkpoint.config
    if layout == "peav":
        names = parameter_shapes(config)
        theirs = {name: tensor for name, tensor in checkpoint.tensors.items() if name in names}
        rest = {name: tensor for name, tensor in checkpoint.tensors.items() if name not in names}
        data = native.write_config(config, weights_sha256(theirs))
    elif layout == "transformers":
        checkpoint.add_unread(config.text.num_hidden_layers, bottleneck=False)
        data = transformers.write_config(checkpoint)
        theirs, rest = write_entries(transformers.key_map(config), checkpoint.tensors)
    else:
        # The original reads the state *before* layer n + 1, so that layer has to be there.
        checkpoint.add_unread(max(checkpoint.text_layers(), config.text.num_hidden_layers + 1), bottleneck=True)
        data = perception_models.write_config(checkpoint)
        theirs, rest = write_entries(perception_models.key_map(config, checkpoint.text_layers()), checkpoint.tensors)
    files.write_safetensors(directory / files.WEIGHTS, theirs)
    rest = {name: tensor for name, tensor in rest.items() if not is_filler(name, tensor, checkpoint.dtype)}
    if rest:
        files.write_safetensors(directory / files.EXTRA, rest)
    if layout == "transformers":
        write_processors(config, directory)
    files.write_json(directory / files.CONFIG, data)


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    layout: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype | str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """Convert a checkpoint to another layout: tensors bit for bit, in their own dtypes; tokenizer and postprocessing go
    with them.

    Converting there and back gives every tensor again: what a layout has no place for (text layers past the last used
    one, the codec bottleneck's second half, most logit scales ...) stands beside it in `peav_extra.safetensors`.

    Args:
        source: a directory or hub name (see `hub.resolve`) in any layout.
        target: a directory that holds no checkpoint yet.
        layout: `peav`, `perception_models` or `transformers`.
        revision: of a hub name.
        dtype: what the tensors are rounded to; None: each keeps its own.
        cache_dir: where downloads are kept; None: the hub's own cache.

    Raises:
        CheckpointError: no such layout, `target` is taken, or the layout cannot express the model.
    """
    if layout not in LAYOUTS:
        raise CheckpointError(f"no layout {layout!r}: choose one of {', '.join(LAYOUTS)}")
    rounded = None if dtype is None else as_dtype(dtype)
    directory, out = hub.resolve(source, revision, cache_dir=cache_dir), files.new_directory(target)
    checkpoint = read_checkpoint(directory)
    if rounded is not None:
        checkpoint.tensors = {name: tensor.to(rounded) for name, tensor in checkpoint.tensors.items()}
    write_checkpoint(checkpoint, out, layout)
    files.copy_beside(directory, out)
    return out
