"""Fine-tuning a checkpoint: what of it trains, on which pairs, and the average of its weights (`tune:` in a recipe)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from peav.data.manifest import Row
from peav.errors import RecipeError
from peav.features.live import LiveFeatures
from peav.model import PEAV
from peav.model.lora import add_low_rank
from peav.objectives.pairs import Pair, needed
from peav.train.evaluate import Features, has
from peav.train.recipe import Recipe, Tune

LOOKED_AT = 1000  # clips whose streams are looked at, where no features tell them


def set_trainable(model: PEAV, tune: Tune, pairs: Iterable[Pair], seed: int = 0) -> None:
    """Let nothing train but what `tune` names and the pairs use, in full or by LoRA, and the pairs' scales and biases.

    What is frozen already (the codec, cached frames) stays so.
    """
    pairs = tuple(pairs)
    chosen = [module for part, modules in _parts(model, pairs).items() if part in tune.parts for module in modules]
    trained = [parameter for module in chosen for parameter in module.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    _set_trainable(trained)
    if tune.rank:
        generator = torch.Generator().manual_seed(seed)
        for module in chosen:
            add_low_rank(module, tune.rank, generator)
        _set_trainable(trained, False)
    for pair in pairs:
        _set_trainable([model.logit_scale[pair.name], model.logit_bias[pair.name]])


@torch.no_grad()
def reinit(model: PEAV, parts: Iterable[str], pairs: Iterable[Pair]) -> None:
    """Give what the pairs use of some of `PARTS` new random weights, and their scales and biases where these start.

    The codec and the frame encoder keep theirs.
    """
    parts, pairs = tuple(parts), tuple(pairs)
    if not parts:
        return
    new = PEAV(model.config)
    old_modules, new_modules = _parts(model, pairs), _parts(new, pairs)
    for part in parts:
        for old, fresh in zip(old_modules[part], new_modules[part], strict=True):
            state = fresh.state_dict()
            kept = [name for name in state if name.startswith(("codec.", "frame_encoder."))]
            # Not strict, since what the model keeps is left out.
            old.load_state_dict({name: state[name] for name in state if name not in kept}, strict=False)
    for pair in pairs:
        model.logit_scale[pair.name].copy_(new.logit_scale[pair.name])
        model.logit_bias[pair.name].copy_(new.logit_bias[pair.name])


def _set_trainable(parameters: Iterable[Tensor], on: bool = True) -> None:
    for parameter in parameters:
        parameter.requires_grad_(on)


def _parts(model: PEAV, pairs: Iterable[Pair]) -> dict[str, list[nn.Module]]:
    """The modules of each part that the pairs run through."""
    sides = needed(pairs)
    media = {side.modality for side in sides}
    return {
        "audio": [model.audio] if media & {"audio", "audio_video"} else [],
        "video": [model.video] if media & {"video", "audio_video"} else [],
        "fusion": [model.fusion] if "audio_video" in media else [],
        "text": [model.text] if any(side.caption for side in sides) else [],
        "heads": [model.heads[head] for head in dict.fromkeys(side.head for side in sides)],
    }


def drop_unused_pairs(recipe: Recipe, rows: Sequence[Row], cache: Features) -> Recipe:
    """The recipe with those of its pairs alone of which some row has both sides.

    The others would teach nothing, while their towers run and decay.

    Args:
        rows: the training rows, in `cache`. Where they are decoded while training, `LOOKED_AT` of them stand for all,
            since a file is opened for each.

    Raises:
        RecipeError: there is no such pair.
    """
    if isinstance(cache, LiveFeatures) and len(rows) > LOOKED_AT:
        rows = [rows[number * len(rows) // LOOKED_AT] for number in range(LOOKED_AT)]
    # One row of each kind stands for the others: thousands of rows are of a few kinds.
    kinds = {(*cache.streams(row), bool(row.transcript), *row.captions): row for row in rows}
    pairs = [
        pair
        for pair in recipe.objective.table()
        if any(has(row, pair.query, cache) and has(row, pair.target, cache) for row in kinds.values())
    ]
    if not pairs:
        names = ", ".join(pair.name for pair in recipe.objective.table())
        raise RecipeError(
            f"no training row has both sides of any pair among {names}: rows need `text`, `captions` or a transcript "
            "beside their audio or video (or both streams), and objective.pairs must fit them"
        )
    served = tuple(pair.name for pair in pairs)
    weights = {name: weight for name, weight in recipe.objective.weights.items() if name in served}
    return replace(recipe, objective=replace(recipe.objective, pairs=served, weights=weights))


class Average(nn.Module):
    """The exponential moving average of what trains in a module; a module itself, so that it is saved with the rest.

    Its decay rises to `decay` as (1 + step) / (10 + step), so that the start is soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        # In a plain list, which nn.Module does not look into: the weights are saved with their own module.
        self._live = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.values = nn.ParameterList(nn.Parameter(p.detach().clone(), requires_grad=False) for p in self._live)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after the step counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for value, live in zip(self.values, self._live, strict=True):
            value.lerp_(live, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and averages, to the bit."""
        for value, live in zip(self.values, self._live, strict=True):
            kept = live.clone()
            live.copy_(value)
            value.copy_(kept)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages stand for the weights within the block."""
        self.swap()
        try:
            yield
        finally:
            self.swap()
