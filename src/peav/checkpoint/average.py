"""The mean of several checkpoints' weights."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from peav.errors import CheckpointError

from . import files, hub
from .bundle import as_dtype
from .load import load_model, save_pretrained


def same_tokenizer(one: Tokenizer | None, other: Tokenizer | None) -> bool:
    """Whether two make the same tokens of every text; how they are set to cut and pad does not count, see `tokenize`.

    (Checkpoints of earlier versions carry what their training had set.)
    """
    if one is None or other is None:
        return one is other
    unset = {"truncation": None, "padding": None}
    return bool(json.loads(one.to_str()) | unset == json.loads(other.to_str()) | unset)


@torch.no_grad()
def average(
    sources: Sequence[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    revision: str | None = None,
    dtype: torch.dtype | str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """Write the model each of whose weights is the mean of the same weight of `sources`, in float32 and our layout.

    Runs that went on from one checkpoint, each with its own seed, often average to a better model than each of them is
    (model soups, Wortsman et al. 2022, arXiv 2203.05482); runs that began apart seldom do. Measure before you trust it.

    Args:
        sources: two or more directories or hub names, of models with one configuration and one tokenizer.
        target: a directory that holds no checkpoint yet.
        revision: of hub names, all of them; `NAME@REVISION` gives each its own.
        dtype: of the weights that are written; None: float32.
        cache_dir: where downloads are kept; None: the hub's own cache.

    How scores become events is kept where all sources say the same of it.

    Raises:
        CheckpointError: fewer than two sources, sources that differ in more than their weights, or `target` is taken.
    """
    if len(sources) < 2:
        raise CheckpointError("an average needs two checkpoints or more")
    out, written = files.new_directory(target), as_dtype(dtype)
    paths = [hub.resolve(source, revision, cache_dir=cache_dir) for source in sources]
    first, tokenizer = load_model(paths[0]), files.load_tokenizer(paths[0])
    total = {name: tensor.double() for name, tensor in first.state_dict().items()}
    for source, path in zip(sources[1:], paths[1:], strict=True):
        model, own = load_model(path), files.load_tokenizer(path)
        if type(model) is not type(first) or model.config != first.config:
            raise CheckpointError(f"{source} is built otherwise than {sources[0]}: average runs of one model")
        if not same_tokenizer(own, tokenizer):
            raise CheckpointError(f"{source} has another tokenizer than {sources[0]}: average runs of one model")
        for name, tensor in model.state_dict().items():
            total[name] += tensor
    first.load_state_dict({name: tensor / len(sources) for name, tensor in total.items()})
    postprocessing = files.read_postprocessing(paths[0])
    same = all(files.read_postprocessing(path) == postprocessing for path in paths)
    return save_pretrained(first.to(written), out, tokenizer, postprocessing=postprocessing if same else None)
