"""What devices that share a batch hold of the weights, and what they say to each other in one step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from peav.model import PEAV
from peav.objectives.auxiliary import AuxiliaryLoss
from peav.objectives.pairs import Embedding, needed
from peav.train.recipe import Objective, Recipe

FP32 = 4  # bytes
DDP_BUCKET = 25 * 2**20


@dataclass(frozen=True)
class Collective:
    """How many of one kind a step has, and the bytes of what is gathered, scattered or reduced in all of them."""

    count: int
    bytes: int

    def __add__(self, other: Collective) -> Collective:
        return Collective(self.count + other.count, self.bytes + other.bytes)


NONE = Collective(0, 0)


@dataclass(frozen=True)
class Unit:
    """A part of the model that FSDP gathers and frees as a whole: its own parameters, those of units in it left out.

    `passes`: how many forward passes of a step go through it. The root stays gathered from the first to the last.
    """

    parameters: tuple[nn.Parameter, ...]
    learning: tuple[nn.Parameter, ...]  # that have a gradient in a step
    passes: int
    root: bool


def shard_bytes(parameters: Iterable[Tensor], devices: int) -> int:
    """Bytes that every device allocates for its shards: rows are dealt out evenly and the last shard is padded."""
    return sum(FP32 * -(-p.shape[0] // devices) * (p.numel() // p.shape[0]) for p in parameters)


def units(model: PEAV, losses: Mapping[str, AuxiliaryLoss], objective: Objective) -> list[Unit]:
    """What `distributed.wrap` makes of the model and the auxiliary losses: its towers, and all the rest as the root."""
    wanted = needed(objective.table())
    idle = _idle(model, wanted, objective)
    media = {embedding.modality for embedding in wanted}
    passes = {
        id(model.text): len({embedding.caption for embedding in wanted} - {None}),
        id(model.audio.tower): int(bool(media & {"audio", "audio_video"})),
        id(model.video.tower): int(bool(media & {"video", "audio_video"})),
        id(model.fusion): int("audio_video" in media),
    }
    found = [_unit(tower.parameters(), idle, passes[id(tower)], root=False) for tower in model.towers()]
    inside = {id(parameter) for unit in found for parameter in unit.parameters}
    everything = [*model.parameters(), *(p for loss in losses.values() for p in loss.parameters())]
    return [*found, _unit((p for p in everything if id(p) not in inside), idle, 1, root=True)]


def _unit(parameters: Iterable[nn.Parameter], idle: set[int], passes: int, root: bool) -> Unit:
    own = tuple(parameters)
    learning = tuple(p for p in own if p.requires_grad and id(p) not in idle and passes)
    return Unit(own, learning, passes, root)


def _idle(model: PEAV, wanted: Iterable[Embedding], objective: Objective) -> set[int]:
    """Parameters of the model that no pair uses; InfoNCE uses no bias."""
    heads = {embedding.head for embedding in wanted}
    pairs = {pair.name for pair in objective.table()}
    unused = [p for name, head in model.heads.items() if name not in heads for p in head.parameters()]
    unused += [scale for name, scale in model.logit_scale.items() if name not in pairs]
    biased = pairs if objective.loss == "sigmoid" else set()
    unused += [bias for name, bias in model.logit_bias.items() if name not in biased]
    return {id(parameter) for parameter in unused}


def traffic(recipe: Recipe, parts: list[Unit], losses: int, width: int, devices: int) -> dict[str, Collective]:
    """The collectives of one step by kind: forward and backward passes, and the clipping of gradients.

    With FSDP each part is gathered for every forward pass and, but for the root, once for the backward one, in fp32;
    its gradients are scattered. With DDP gradients are reduced in buckets of 25 MB, the number of which is an estimate.
    The losses gather every pair's targets, which samples there are and which belong together, and reduce the targets'
    gradients.

    Args:
        losses: how many there are beside the pairs.
        width: of the embeddings.

    Returns:
        `all_gather`, `reduce_scatter` and `all_reduce`; nothing where one device is alone.
    """
    if devices == 1:
        return {}
    pairs = len(recipe.objective.table()) * (2 if recipe.objective.loss == "infonce" else 1)
    batch, embeddings = recipe.optim.batch_size, recipe.optim.batch_size * width * FP32
    # Of each target 1 byte says whether it is there, two of 8 which query and which target it is.
    gathered = Collective(3 * pairs, pairs * (batch * (1 + 2 * 8) + embeddings))
    values = FP32 * (len(recipe.objective.table()) + losses)
    # A loss beside the pairs counts its frames.
    reduced = Collective(pairs, pairs * embeddings) + Collective(1, values) + Collective(losses, 8 * losses)
    scattered = NONE
    for part in parts:
        whole = devices * shard_bytes(part.parameters, devices)
        learning = devices * shard_bytes(part.learning, devices)
        if recipe.parallel == "fsdp":
            times = part.passes + (not part.root and part.passes > 0)
            gathered += Collective(times, times * whole)
            scattered += Collective(int(learning > 0), learning)
    once = NONE
    if recipe.parallel == "fsdp":
        once = _norms(parts)
    else:
        size = sum(FP32 * p.numel() for part in parts for p in part.parameters if p.requires_grad)
        reduced += Collective(-(-size // DDP_BUCKET), size)
    every = {"all_gather": gathered, "reduce_scatter": scattered, "all_reduce": reduced}
    times = recipe.optim.accumulate
    step = {kind: Collective(times * one.count, times * one.bytes) for kind, one in every.items()}
    return step | {"all_reduce": step["all_reduce"] + once}


def _norms(parts: Iterable[Unit]) -> Collective:
    """Of sharded gradients: every parameter's norm, in one reduction for the weights, in one for scales and biases."""
    return Collective(2, sum(FP32 for part in parts for _ in part.learning))


def sent_bytes(step: Mapping[str, Collective], devices: int) -> float:
    """What one device sends in a step where all stand in a ring: a reduction is a scattering and a gathering."""
    rounds = {"all_gather": 1, "reduce_scatter": 1, "all_reduce": 2}
    return sum(rounds[kind] * one.bytes * (devices - 1) / devices for kind, one in step.items())
