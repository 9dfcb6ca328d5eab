"""What happens to a model before the first step: parts taken from checkpoints, and what a recipe's initializers do.

An initializer is a subclass of `Initializer` in a file of its own, with a line in `INITIALIZERS`; outside the package a
recipe names it as `path/to/file.py:Class`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save
from tokenizers import Tokenizer

from peav.checkpoint import load_model, load_text_encoder, load_tokenizer, resolve
from peav.data.manifest import Row
from peav.errors import RecipeError
from peav.features.extract import add_weights
from peav.features.store import FeatureCache
from peav.model import PEAV, TextConfig
from peav.recipes.config import from_options
from peav.train.progress import Reporter
from peav.train.recipe import Recipe
from peav.utils.storage import write_all

INITIALIZERS = {
    "distill_codec": "peav.lab.codec:DistillCodec",
    "pretrain_frames": "peav.lab.frames:PretrainFrames",
}
# Short names of the classes that a recipe may give as `text.checkpoint`.
TEXT_ENCODERS = {"random_modernbert": "peav.lab.modernbert:RandomModernBERT"}


@dataclass(frozen=True)
class InitContext:
    """What an initializer may use.

    Attributes:
        fresh: the model's weights are random, but for parts that were taken from checkpoints.
        places: where each source's clips are, as the recipe says it; `sources` their training rows.
        prepared: for each source, whether it has features alone.
        features: of all clips; None for initializers that do not need them.
        cache: a folder for what initializers make.
    """

    recipe: Recipe
    fresh: bool
    places: Sequence[Any]
    sources: Sequence[Sequence[Row]]
    prepared: Sequence[bool]
    features: FeatureCache | None
    cache: Path
    reporter: Reporter

    def kept(
        self, name: str, part: torch.nn.Module, made_of: Any, teach: Callable[[], None], start: bool = True
    ) -> None:
        """Teach a part of the model, or read back what an earlier run taught it.

        Args:
            made_of: all that the result depends on, but for the seed and (with `start`) the weights that `part` has.
        """
        digest = hashlib.sha256(json.dumps(made_of).encode())
        if start:
            add_weights(digest, part)
        model = Path(self.recipe.model).name
        # All that it depends on is in the name: what was made of anything else is not read back.
        path = self.cache / f"{name}-{model}-{self.recipe.seed}-{digest.hexdigest()[:12]}.safetensors"
        if path.exists():
            part.load_state_dict(load_file(path))
            return
        # What is drawn after this must not depend on whether it was done before.
        with torch.random.fork_rng(devices=[]):
            teach()
        write_all(path, save(part.state_dict()))


class Initializer:
    """Changes the model before the first step; its options are what `__init__` takes."""

    needs_features: ClassVar[bool] = False
    """Whether it runs after features are made, and not before. What changes the codec must run before."""

    def run(self, model: PEAV, context: InitContext) -> None:
        """Change the model in place, the same way each time."""
        raise NotImplementedError


class TextEncoderMaker:
    """Makes the checkpoint of a text encoder where it is not there yet; its options are what `__init__` takes."""

    def make(self, config: TextConfig, texts: Callable[[], Iterable[str]]) -> str:
        """The checkpoint's folder; `config` is that of the model that takes it over, `texts` are those that train."""
        raise NotImplementedError


def take_codec(recipe: Recipe, model: PEAV, checkpoint: str | None) -> None:
    """Give a model the codec of a checkpoint that a recipe names, if it does."""
    if checkpoint is not None:
        source = load_model(checkpoint, cache_dir=recipe.hub_cache)
        model.audio.codec.load_state_dict(source.audio.codec.state_dict())


def take_text(recipe: Recipe, model: PEAV, texts: Callable[[], Iterable[str]]) -> Tokenizer | None:
    """Give a model the text encoder of the checkpoint that a recipe names, if it does; returns its tokenizer."""
    checkpoint = recipe.text.checkpoint
    if checkpoint is None:
        return None
    if not isinstance(checkpoint, str):
        maker = from_options(TextEncoderMaker, TEXT_ENCODERS, checkpoint, "text.checkpoint")
        checkpoint = maker.make(model.config.text, texts)
    directory = resolve(checkpoint, cache_dir=recipe.hub_cache)
    tokenizer = load_tokenizer(directory, model.config.text.vocab_size)
    if tokenizer is None:
        raise RecipeError(f"text.checkpoint: {checkpoint} has no tokenizer.json beside its weights")
    model.text.load_state_dict(
        load_text_encoder(checkpoint, model.config.text, cache_dir=recipe.hub_cache).state_dict()
    )
    return tokenizer


def take_frames(recipe: Recipe, model: PEAV) -> None:
    """Give a model the number of frames and the checkpoint's frame encoder that a recipe asks for, if it does."""
    if recipe.frames.num_frames is not None:
        model.config = replace(model.config, video=replace(model.config.video, num_frames=recipe.frames.num_frames))
    checkpoint = recipe.frames.checkpoint
    if checkpoint is None:
        return
    source = load_model(checkpoint, cache_dir=recipe.hub_cache)
    if not isinstance(source, PEAV):
        raise RecipeError(f"frames.checkpoint: {checkpoint} holds no frame encoder; give a PE-AV checkpoint")
    model.video.frame_encoder.load_state_dict(source.video.frame_encoder.state_dict())
