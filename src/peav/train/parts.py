"""What must be ready before the towers train: codec and frame encoder, taken over, taught or found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from peav.checkpoint import load_model, load_text_encoder, load_tokenizer, resolve
from peav.data.manifest import Row
from peav.errors import RecipeError
from peav.features.cache import FeatureCache, add_weights, clip_key
from peav.lab.codec import TARGET, distil_codec, keep_hearing
from peav.lab.frames import pretrain_frames
from peav.model import PEAV
from peav.train.recipe import Codec, Frames, Recipe, Source
from peav.train.reporter import Reporter
from peav.utils.atomic import atomic_write


def ready_codec(recipe: Recipe, model: PEAV, sources: Sequence[Sequence[Row]], reporter: Reporter) -> None:
    """Give a model its codec: a checkpoint's, distilled on if so asked (what an earlier run distilled is read back)."""
    codec = recipe.codec
    before = deepcopy(model.audio.codec)
    if codec.checkpoint is not None:
        model.audio.codec.load_state_dict(
            load_model(codec.checkpoint, cache_dir=recipe.hub_cache).audio.codec.state_dict()
        )
    if codec.distil_steps:
        _distilled(recipe, model, sources, reporter)
    old, new = before.state_dict(), model.audio.codec.state_dict()
    if not recipe.from_scratch and not all(torch.equal(old[name], new[name]) for name in new):
        keep_hearing(model, before, _with_media(recipe, sources), recipe.seed)


def _with_media(recipe: Recipe, sources: Sequence[Sequence[Row]]) -> list[Sequence[Row]]:
    """The rows that are not prepared features."""
    given = _given(recipe, sources)
    world = sources[: len(sources) - len(given)]
    return [*world, *(rows for source, rows in given if source.prepared is None)]


def _given(recipe: Recipe, sources: Sequence[Sequence[Row]]) -> list[tuple[Source, Sequence[Row]]]:
    """Each source of a recipe with its rows; those of the world come first and are no entry of the recipe's sources."""
    rows = sources[len(sources) - len(recipe.data.sources) :]
    return list(zip(recipe.data.sources, rows, strict=True))


def _distilled(recipe: Recipe, model: PEAV, sources: Sequence[Sequence[Row]], reporter: Reporter) -> None:
    codec = recipe.codec
    fresh = recipe.from_scratch and codec.checkpoint is None
    heard = [[clip_key(row) for row in rows] for rows in sources]
    path = _made(recipe, "codec", codec, [TARGET, heard], None if fresh else model.audio.codec)

    def teach() -> None:
        reporter.stage("codec", codec.distil_steps)
        distil_codec(
            model,
            sources,
            codec,
            recipe.seed,
            fresh=fresh,
            progress=lambda step, error: reporter.advance(step, f"mse {error:.3f}"),
        )

    _taught(model.audio.codec, path, teach)


def take_text(recipe: Recipe, model: PEAV) -> Tokenizer | None:
    """Give a model the text encoder of the checkpoint that a recipe names, if it does; returns its tokenizer."""
    checkpoint = recipe.text.checkpoint
    if checkpoint is None:
        return None
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


def ready_frames(
    recipe: Recipe, model: PEAV, cache: FeatureCache, sources: Sequence[Sequence[Row]], reporter: Reporter
) -> None:
    """Teach a model's frame encoder, or read back what an earlier run taught it."""
    frames, encoder = recipe.frames, model.video.frame_encoder
    if frames.pretrain_steps == 0:
        return
    rows = [row for source in sources for row in source]
    speakers = [row for source, some in _given(recipe, sources) if source.lips for row in some]
    seen = [
        [(clip_key(row), row.captions.get("video")) for row in rows],
        [(clip_key(row), [asdict(word) for word in row.words]) for row in speakers],
    ]
    path = _made(recipe, "frames", frames, seen, None if recipe.from_scratch else encoder)

    def teach() -> None:
        reporter.stage("frames", frames.pretrain_steps)
        pretrain_frames(
            model,
            rows,
            cache,
            frames,
            recipe.seed,
            speakers=speakers,
            progress=lambda step, loss: reporter.advance(step, f"loss {loss:.3f}"),
        )

    _taught(encoder, path, teach)


def _taught(part: torch.nn.Module, path: Path, teach: Callable[[], None]) -> None:
    """Read a part's weights back from `path`, or teach it and keep them there."""
    if path.exists():
        part.load_state_dict(load_file(path))
        return
    with torch.random.fork_rng(devices=[]):  # what is drawn after this must not depend on whether it was done before
        teach()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        save_file(part.state_dict(), temporary)


def _made(recipe: Recipe, part: str, config: Codec | Frames, learnt_from: Any, start: torch.nn.Module | None) -> Path:
    """Where a trained part of a model is kept: named after all that made it, the weights of `start` too."""
    digest = hashlib.sha256(json.dumps([asdict(config), learnt_from]).encode())
    if start is not None:
        add_weights(digest, start)
    name = Path(recipe.model).name
    return Path(recipe.data.cache) / f"{part}-{name}-{recipe.seed}-{digest.hexdigest()[:12]}.safetensors"
