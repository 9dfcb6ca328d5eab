"""What a recipe will cost, counted on a skeleton without weights: operations, memory, network, data, time."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from peav.checkpoint import load_config
from peav.errors import CheckpointError, RecipeError
from peav.model import PEAV, PEAVConfig, preset
from peav.model.codec import GPU_WINDOW
from peav.objectives.auxiliary import AUXILIARY, AuxiliaryLoss, LossContext, loss_name
from peav.objectives.contrastive import CHUNK
from peav.recipes.config import from_options
from peav.train.clips import prepared_folders
from peav.train.finetune import set_trainable
from peav.train.media_cost import Media, media_of
from peav.train.recipe import Recipe
from peav.train.skeleton import Clip, Count, clip_of, count_clip
from peav.train.traffic import FP32, Collective, Unit, sent_bytes, shard_bytes, traffic, units

GIB = 2**30
STATED = Media()


@dataclass(frozen=True)
class Cluster:
    """What a run is to be carried out on.

    Attributes:
        devices: how many share a batch.
        teraflops: what one sustains; an H100 at two fifths of its dense bf16 peak.
        memory: of one, in GiB.
        network: what one sends a second, in GB; None: not known, and not the limit.
    """

    devices: int = 1
    teraflops: float = 400.0
    memory: float = 80.0
    network: float | None = None


@dataclass(frozen=True)
class DataCost:
    """What a run's data costs. None: not known, since clips are not there and nothing was stated.

    Attributes:
        decodes: whether clips are decoded while training; else features are read, which are made before.
        clips_per_second: that all devices take together.
        cores: processor cores a device that decode as fast as it takes clips (features: 0).
        read: bytes a second, all devices together.
        storage: bytes of all clips' media.
        features: bytes of one clip's features on disk; 0 where none are made.
        all_features: of all clips.
    """

    decodes: bool
    clips_per_second: float
    cores: float | None
    read: float | None
    storage: float | None
    features: int
    all_features: float | None


@dataclass(frozen=True)
class Plan:
    """The cost of a run.

    Attributes:
        flops: operations a clip by part, backward pass included for what trains.
        step_flops: of the global batch with its logits: of what runs in the step, which leaves out what features hold.
        memory: bytes on each device by what holds them.
        shard_bytes: of fp32 weights that each device holds.
        collectives: of one step, by kind; see `train.traffic`.
        compute_seconds, network_seconds: of one step; `step_seconds`: the longer one.
        hours: of all devices together.
        media: what is known of the clips; `data`: what they cost.
        refused: why the run cannot be carried out so; empty where it can.
    """

    parameters: int
    trainable: int
    flops: Mapping[str, float]
    step_flops: float
    memory: Mapping[str, float]
    devices: int
    hours: float
    shard_bytes: int
    collectives: Mapping[str, Collective]
    compute_seconds: float
    network_seconds: float | None
    step_seconds: float
    media: Media
    data: DataCost
    refused: tuple[str, ...]


def plan(
    recipe: Recipe, devices: int = 1, teraflops: float = 400.0, *, cluster: Cluster | None = None, media: Media = STATED
) -> Plan:
    """Count what one run of `recipe` costs on a cluster, by default `devices` that sustain `teraflops` each.

    Clips count as `data.max_seconds` long with captions of 64 tokens. Operations are those of matrix products,
    attention and convolutions, layers that are computed again included; heads of auxiliary losses are left out, and so
    are clips that transforms make on top of a batch. Activations are those that the backward pass keeps; with
    `optim.recompute` the layers' inputs stand for their insides (those of one layer at a time are alive for a moment
    and left out). With `tune` all pairs of the recipe count, though a manifest may serve fewer.

    Args:
        media: what is known of the clips; the rest is measured where they are there, see `train.media_cost`.

    Raises:
        RecipeError: the recipe trains frames (`align`) or a captioner, its model is no PE-AV model or is not there yet,
            the batch does not divide among the devices, or clips are longer than the model takes.
    """
    cluster = cluster or Cluster(devices, teraflops)
    config = _config(recipe)
    clip = clip_of(config, recipe)
    _check(recipe, config, clip, cluster.devices)
    model = _skeleton(config, recipe)
    losses = _losses(recipe, config)
    parts = units(model, losses, recipe.objective)
    parameters = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    collectives = traffic(recipe, parts, len(losses), config.output_dim, cluster.devices)
    count = count_clip(config, lambda config: _skeleton(config, recipe), recipe, clip)
    step_flops = _step_flops(recipe, config, count)
    memory = _memory(recipe, config, clip, parts, count.kept, cluster.devices)
    compute = step_flops / (cluster.devices * cluster.teraflops * 1e12)
    sending = None if cluster.network is None else sent_bytes(collectives, cluster.devices) / (cluster.network * 1e9)
    seconds = max(compute, sending or 0.0)
    media = media_of(recipe, clip, media)
    data = _data(recipe, config, clip, media, seconds, cluster.devices)
    weights = tuple(parameter for part in parts for parameter in part.parameters)
    return Plan(
        parameters,
        trainable,
        count.flops,
        step_flops,
        memory,
        cluster.devices,
        cluster.devices * seconds * recipe.optim.steps / 3600,
        shard_bytes(weights, cluster.devices if recipe.parallel == "fsdp" else 1),
        collectives,
        compute,
        sending,
        seconds,
        media,
        data,
        tuple(_refusals(recipe, memory, data, cluster)),
    )


def count_step(recipe: Recipe) -> float:
    """Operations of a step of the global batch, as in a plan; RecipeError as there, but for the length of clips."""
    config = _config(recipe)
    clip = clip_of(config, recipe)
    # `data.max_seconds` may be more than the model takes where no clip is as long.
    steps, frames = config.audio.transformer.max_steps, config.video.transformer.max_steps
    clip = replace(clip, steps=min(clip.steps, steps), frames=min(clip.frames, frames))
    return _step_flops(recipe, config, count_clip(config, lambda config: _skeleton(config, recipe), recipe, clip))


def decodes(recipe: Recipe) -> bool:
    """Whether clips are decoded while training."""
    return recipe.data.decode is not None


def _config(recipe: Recipe) -> PEAVConfig:
    if recipe.align is not None:
        raise RecipeError("align: a run that trains frames cannot be planned, only trained")
    if recipe.captioner is not None:
        raise RecipeError("captioner: a run that trains a captioner cannot be planned, only trained")
    try:
        config = preset(recipe.model) if recipe.from_scratch else load_config(recipe.model, cache_dir=recipe.hub_cache)
    except CheckpointError as error:
        raise RecipeError(
            f"model: {error}; if a run is to make it, plan with its preset, such as model: small-16-frame"
        ) from error
    if not isinstance(config, PEAVConfig):
        raise RecipeError(f"model: {recipe.model!r} is no PE-AV model; only these are planned")
    return config


def _check(recipe: Recipe, config: PEAVConfig, clip: Clip, devices: int) -> None:
    """Raises RecipeError where the first step would fail, whatever the machine."""
    batch = recipe.optim.batch_size
    if batch % devices:
        near = " or ".join(str(size) for size in (batch // devices * devices, -(-batch // devices) * devices) if size)
        raise RecipeError(f"optim.batch_size {batch} does not divide among {devices} devices; set it to {near}")
    rate = config.audio.codec.sampling_rate / config.audio.codec.hop_length
    most = min(config.audio.transformer.max_steps, config.fusion.max_steps)
    if clip.steps > most:
        raise RecipeError(f"data.max_seconds: the model takes {most / rate:.0f} s at most, not {clip.seconds:g}")
    if clip.frames > (most := config.video.transformer.max_steps):
        raise RecipeError(f"frames.num_frames: the model takes {most} at most, not {clip.frames}")
    if any(prepared_folders(recipe)) and not recipe.frames.frozen:
        raise RecipeError("a prepared source has no pictures to train from: set frames.frozen: true")


def _losses(recipe: Recipe, config: PEAVConfig) -> dict[str, AuxiliaryLoss]:
    """The losses beside the pairs, made without clips: one whose size depends on them counts without."""
    context, losses = LossContext(config, [], recipe.seed), {}
    for key, options in recipe.objective.losses().items():
        named = {"class": key, **{name: value for name, value in options.items() if name != "weight"}}
        losses[loss_name(key)] = from_options(AuxiliaryLoss, AUXILIARY, named, "objective.auxiliary", context)
    return losses


def _skeleton(config: PEAVConfig, recipe: Recipe) -> PEAV:
    """A model without weights in which trains what the recipe says, as `train.task_contrastive` has it."""
    with torch.device("meta"):
        model = PEAV(config)
    model.recompute_layers(recipe.optim.recompute)
    model.audio.codec.requires_grad_(recipe.codec.trainable)
    model.video.frame_encoder.requires_grad_(not recipe.frames.frozen)
    if recipe.tune is not None:
        set_trainable(model, recipe.tune, recipe.objective.table())
    return model


def _step_flops(recipe: Recipe, config: PEAVConfig, count: Count) -> float:
    """Of the parts that run in a step, and of the logits."""
    held = set()  # in features
    if not decodes(recipe):
        held |= set() if recipe.codec.trainable else {"codec"}
        held |= {"frame encoder"} if recipe.frames.frozen else set()
    optim, objective = recipe.optim, recipe.objective
    directions = 2 if objective.loss == "infonce" else 1
    # A multiplication and an addition forward, and three times that backward, which makes the logits anew.
    logits = 8.0 * len(objective.table()) * directions * optim.batch_size**2 * config.output_dim
    clip = sum(flops for part, flops in count.flops.items() if part not in held)
    return optim.accumulate * (optim.batch_size * clip + logits)


def _memory(
    recipe: Recipe, config: PEAVConfig, clip: Clip, parts: Sequence[Unit], kept: float, devices: int
) -> dict[str, float]:
    """Bytes on each device."""
    optim, sharded = recipe.optim, recipe.parallel == "fsdp" and devices > 1
    shards = devices if sharded else 1
    learning = [parameter for part in parts for parameter in part.parameters if parameter.requires_grad]
    matrices = sum(p.numel() for p in learning if p.dim() > 1)
    batch = optim.batch_size / devices
    losses = len(recipe.objective.table()) * (optim.batch_size + batch) * config.output_dim + 5 * CHUNK * batch
    memory = {
        "weights": float(shard_bytes((p for part in parts for p in part.parameters), shards)),
        "gradients": float(shard_bytes(learning, shards)),
        "optimizer": 2.0 * shard_bytes(learning, shards),  # AdamW keeps two moments
        # Autocast holds them until the forward pass is done.
        "weights in bf16": 2.0 * matrices if optim.bf16 else 0.0,
        "activations": kept * batch,
        # The next one is there while this one is computed.
        "two batches": 2.0 * batch * _batch_bytes(recipe, config, clip),
        "embeddings and logits": float(FP32 * losses),
    }
    if sharded:
        # The root stays whole from the first pass to the last; of the others one at a time is, with its gradients.
        whole = [(sum(p.numel() for p in (*part.parameters, *part.learning)), part.root) for part in parts]
        memory["gathered"] = FP32 * float(
            sum(size for size, root in whole if root) + max(size for size, root in whole if not root)
        )
    if decodes(recipe) and not recipe.codec.trainable:
        memory["codec"] = 5.0 * GPU_WINDOW * (2 if optim.bf16 else 4)
    return memory


def _batch_bytes(recipe: Recipe, config: PEAVConfig, clip: Clip) -> int:
    """One clip's in a batch: sound as fp32 samples or latents, frames as pixels or features."""
    whole = decodes(recipe)
    samples = whole or recipe.codec.trainable
    sound = FP32 * (clip.samples if samples else clip.steps * config.audio.codec.latent_dim)
    pixels = whole or not recipe.frames.frozen
    return sound + (_pixels(clip) if pixels else 2 * clip.frames * config.video.frame_encoder.output_dim)


def _pixels(clip: Clip) -> int:
    return clip.frames * clip.image_size**2 * 3


def _data(recipe: Recipe, config: PEAVConfig, clip: Clip, media: Media, seconds: float, devices: int) -> DataCost:
    """Of a run whose steps take so long."""
    rate = recipe.optim.batch_size * recipe.optim.accumulate / seconds
    storage = None if media.bytes is None or media.clips is None else media.bytes * media.clips
    if decodes(recipe):
        cores = None if media.decode_seconds is None else rate * media.decode_seconds / devices
        return DataCost(True, rate, cores, None if media.bytes is None else rate * media.bytes, storage, 0, 0.0)
    # As `features.extract` writes them, in half precision; of a frozen frame encoder both pixels and features.
    codec = config.audio.codec
    sound = 2 * (clip.samples if recipe.codec.trainable else clip.steps * codec.latent_dim)
    features = 2 * clip.frames * config.video.frame_encoder.output_dim
    read = sound + (features if recipe.frames.frozen else _pixels(clip))
    size = read if not recipe.frames.frozen or any(prepared_folders(recipe)) else read + sound + _pixels(clip)
    everything = None if media.clips is None else float(size * media.clips)
    return DataCost(False, rate, 0.0, rate * read, storage, size, everything)


def _refusals(recipe: Recipe, memory: Mapping[str, float], data: DataCost, cluster: Cluster) -> list[str]:
    """Why the machine cannot carry the run out."""
    refused = []
    needs, has = sum(memory.values()) / GIB, cluster.memory
    if needs > has:
        largest = max(memory, key=lambda what: memory[what])
        ways = ["more devices", "a smaller optim.batch_size with optim.accumulate"]
        ways += [] if recipe.optim.recompute else ["optim.recompute: true"]
        ways += [] if recipe.parallel == "fsdp" else ["parallel: fsdp"]
        refused.append(
            f"a device would need {needs:,.0f} GiB of memory and has {has:g}, most of it for {largest}: give "
            + ", ".join(ways)
        )
    if data.all_features and not any(prepared_folders(recipe)):
        free = shutil.disk_usage(_existing(Path(recipe.data.cache))).free
        if data.all_features > free:
            refused.append(
                f"the features of all clips take {data.all_features / 1e9:,.0f} GB, and data.cache, "
                f"{recipe.data.cache}, has {free / 1e9:,.0f} GB free: decode while training, or set another data.cache"
            )
    return refused


def _existing(folder: Path) -> Path:
    """The folder, or the one above it that is there."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())
