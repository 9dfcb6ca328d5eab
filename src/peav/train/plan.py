"""What a recipe will cost, counted on a skeleton without weights: parameters, operations, memory, time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from peav.checkpoint import load_config
from peav.errors import CheckpointError, RecipeError
from peav.model import PEAV, PEAVConfig, preset
from peav.model.config import DEFAULT_NUM_FRAMES
from peav.train.finetune import set_trainable
from peav.train.recipe import Recipe

TOKENS = 64  # a caption
TERAFLOPS = 400.0  # an H100 at two fifths of its dense bf16 peak
CAPTIONS = 3  # one of each kind


@dataclass(frozen=True)
class Plan:
    """The cost of a run.

    `flops`: operations a clip by part, backward pass included for what trains; `step_flops`: of the global batch with
    its logits. `memory`: bytes on each device by what holds them. `hours`: of all devices together.
    """

    parameters: int
    trainable: int
    flops: Mapping[str, float]
    step_flops: float
    memory: Mapping[str, float]
    devices: int
    hours: float


def plan(recipe: Recipe, devices: int = 1, teraflops: float = TERAFLOPS) -> Plan:
    """Count what one run of `recipe` costs on `devices`, each sustaining `teraflops`; nothing is allocated.

    Clips count as `data.max_seconds` long with all three captions of 64 tokens. Operations are those of matrix
    products, attention and convolutions; heads of auxiliary losses are left out. Activations are those that the
    backward pass keeps in bf16; with `optim.recompute` the layers' inputs stand for their insides (those of one layer
    at a time are alive for a moment and left out). Spliced clips and near misses, which come on top of a batch, are
    left out, and with `tune` all pairs of the recipe count, though a manifest may serve fewer.

    Raises:
        RecipeError: the recipe trains frames (`align`), its model is no PE-AV model or is not there yet, or the batch
            does not divide among the devices.
    """
    config, optim = _config(recipe), recipe.optim
    if optim.batch_size % devices:
        raise RecipeError(f"optim.batch_size {optim.batch_size} does not divide among {devices} devices")
    with torch.device("meta"):
        model = PEAV(config).to(torch.bfloat16)
    model.recompute_layers(optim.recompute)
    model.audio.codec.requires_grad_(recipe.codec.trainable)
    model.video.frame_encoder.requires_grad_(not recipe.frames.frozen)
    if recipe.tune is not None:
        set_trainable(model, recipe.tune, recipe.objective.table())
    parameters = sum(p.numel() for p in model.parameters())
    flops, kept = _clip(model, recipe)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    directions = 2 if recipe.objective.loss == "infonce" else 1
    # A multiplication and an addition forward, and three times that backward, which makes the logits anew.
    logits = 8.0 * len(recipe.objective.table()) * directions * optim.batch_size**2 * config.output_dim
    step_flops = optim.accumulate * (optim.batch_size * sum(flops.values()) + logits)
    shards = devices if recipe.parallel == "fsdp" else 1
    # All in fp32; AdamW keeps two moments of what trains.
    memory = {
        "weights": 4.0 * parameters / shards,
        "gradients": 4.0 * trainable / shards,
        "optimizer": 8.0 * trainable / shards,
        "activations": float(kept) * optim.batch_size / devices,
    }
    hours = step_flops * optim.steps / (teraflops * 1e12) / 3600
    return Plan(parameters, trainable, flops, step_flops, memory, devices, hours)


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


def _clip(model: PEAV, recipe: Recipe) -> tuple[dict[str, float], int]:
    """Operations of one clip by part, and the bytes that its backward pass keeps."""
    config, kept = model.config, _Kept(model)
    codec, frame = config.audio.codec, config.video.frame_encoder
    steps = int(recipe.data.max_seconds * codec.sampling_rate) // codec.hop_length
    frames = recipe.frames.num_frames or config.video.num_frames or DEFAULT_NUM_FRAMES

    def count(work: Callable[[], Tensor], trains: bool, times: float = 1.0) -> float:
        before = kept.bytes
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(trains), kept:
            result = work()
            if result.requires_grad:
                result.float().sum().backward()
        kept.bytes = before + round(times * (kept.bytes - before))
        return times * counter.get_total_flops()

    def towers() -> Tensor:
        audio = model.audio_hidden(empty(1, steps, codec.latent_dim))
        video = model.video_hidden(empty(1, frames, frame.output_dim))
        both = model.audio_video_hidden(audio.sequence, None, video.sequence, None, cls_only=True)
        return audio.pooled.sum() + video.pooled.sum() + both.pooled.sum()

    def empty(*shape: int) -> Tensor:
        return torch.empty(*shape, device="meta", dtype=torch.bfloat16)

    ids = torch.empty(CAPTIONS, TOKENS, device="meta", dtype=torch.long)
    # The codec's work is the same every second: one is counted for all.
    second, pixels = empty(1, codec.sampling_rate), empty(1, 3, frame.image_size, frame.image_size)
    flops = {
        "codec": count(lambda: model.encode_codec(second), recipe.codec.trainable, recipe.data.max_seconds),
        "frame encoder": count(lambda: model.frame_features(pixels), not recipe.frames.frozen, frames),
        "towers": count(towers, True),
        "text": count(lambda: model.text_pooled(ids), True),
    }
    return flops, kept.bytes


class _Kept(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that autograd keeps, each storage once, parameters apart."""

    def __init__(self, model: PEAV) -> None:
        self.bytes = 0
        self._seen = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        self._alive: list[Tensor] = []  # a freed storage's number may come again
        super().__init__(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self._alive.append(tensor)
            self.bytes += storage.nbytes()
        return tensor
