"""Operations and memory of one clip's training, counted on a model without weights."""

# Shapes: B clips or texts, T latents at 25 Hz, N video frames, L tokens, H W pixels.

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from peav.model import PEAV, PEAVConfig
from peav.model.config import DEFAULT_NUM_FRAMES
from peav.model.layers import Attention
from peav.objectives.pairs import needed
from peav.train.recipe import Recipe

TOKENS = 64  # a caption


@dataclass(frozen=True)
class Clip:
    """The size of one clip as a recipe trains on it.

    `seconds` of sound are `samples` at the codec's rate and `steps` latents; `frames` of `image_size` pixels a side;
    `captions` of 64 tokens, one of each kind that a pair needs.
    """

    seconds: float
    samples: int
    steps: int
    frames: int
    image_size: int
    captions: int


@dataclass(frozen=True)
class Count:
    """`flops` by part, backward pass included for what trains; `kept`: bytes that the backward pass keeps of a clip."""

    flops: dict[str, float]
    kept: float


def clip_of(config: PEAVConfig, recipe: Recipe) -> Clip:
    """The longest clip that a batch of the recipe has."""
    codec, seconds = config.audio.codec, recipe.data.max_seconds
    steps = int(seconds * codec.sampling_rate) // codec.hop_length
    frames = recipe.frames.num_frames or config.video.num_frames or DEFAULT_NUM_FRAMES
    kinds = {embedding.caption for embedding in needed(recipe.objective.table())} - {None}
    size = config.video.frame_encoder.image_size
    return Clip(seconds, steps * codec.hop_length, steps, frames, size, len(kinds))


def count_clip(config: PEAVConfig, make: Callable[[PEAVConfig], PEAV], recipe: Recipe, clip: Clip) -> Count:
    """Count one clip's training.

    Counted under autocast where the recipe has it, with the attention of GPUs, which keeps no shares and computes them
    again. What is kept once, whatever the batch (weights that were cast), is left out: two clips are counted, and one
    taken off. All layers of a part cost the same: models of two and of three layers are counted, and the rest follows.

    Args:
        make: makes a model of a config on the meta device, in which trains what the recipe says.
    """
    with _fused_attention():
        two, three = (_count_parts(make(_with_layers(config, layers)), recipe, clip) for layers in (2, 3))
    layers = {
        "frame encoder": config.video.frame_encoder.num_layers,
        "audio tower": config.audio.transformer.num_hidden_layers,
        "video tower": config.video.transformer.num_hidden_layers,
        "fusion": config.fusion.num_hidden_layers,
        "text": config.text.num_hidden_layers,
        "codec": 2,
    }

    def at_depth(name: str, value: int) -> float:
        return two[name][value] + (layers[name] - 2) * (three[name][value] - two[name][value])

    return Count({name: at_depth(name, 0) for name in two}, sum(at_depth(name, 1) for name in two))


def _with_layers(config: PEAVConfig, layers: int) -> PEAVConfig:
    """The config with so many layers in every part."""
    frames = replace(config.video.frame_encoder, num_layers=layers)
    audio = replace(config.audio, transformer=replace(config.audio.transformer, num_hidden_layers=layers))
    tower = replace(config.video.transformer, num_hidden_layers=layers)
    return replace(
        config,
        audio=audio,
        video=replace(config.video, frame_encoder=frames, transformer=tower),
        fusion=replace(config.fusion, num_hidden_layers=layers),
        text=replace(config.text, num_hidden_layers=layers),
    )


@dataclass(frozen=True)
class _Part:
    """A part of the model: its `work` on so many inputs, of which a clip has `inputs`."""

    name: str
    work: Callable[[int], Tensor]
    trains: bool
    inputs: float


def _count_parts(model: PEAV, recipe: Recipe, clip: Clip) -> dict[str, tuple[float, float]]:
    """Of each part a clip's operations, and the bytes that are kept of it."""
    found = {}
    with FakeTensorMode():
        _off_meta(model)
        for part in _parts(model, recipe, clip):
            flops, once = _count(part, 1, recipe.optim.bf16)
            kept = _count(part, 2, recipe.optim.bf16, backward=False)[1] - once if part.trains else 0.0
            found[part.name] = part.inputs * flops, part.inputs * kept
    return found


def _parts(model: PEAV, recipe: Recipe, clip: Clip) -> Iterator[_Part]:
    """What the recipe's pairs need, each on inputs of its own."""
    config = model.config
    media = {embedding.modality for embedding in needed(recipe.objective.table())}
    second, latent_dim = config.audio.codec.sampling_rate, config.audio.codec.latent_dim
    pixels = (3, clip.image_size, clip.image_size)
    features = (clip.frames, config.video.frame_encoder.output_dim)
    heard, seen = bool(media & {"audio", "audio_video"}), bool(media & {"video", "audio_video"})
    codec, frames = recipe.codec.trainable, not recipe.frames.frozen
    if heard:
        # The codec's work is the same every second: one is counted for all.
        yield _Part("codec", lambda n: model.encode_codec(torch.empty(n, second)), codec, clip.seconds)
        latents = _inputs(clip.steps, latent_dim, learns=codec)
        yield _Part("audio tower", lambda n: model.audio_hidden(latents(n)).sequence, True, 1)
    if seen:
        yield _Part("frame encoder", lambda n: model.frame_features(torch.empty(n, *pixels)), frames, clip.frames)
        yield _Part("video tower", lambda n: model.video_hidden(_inputs(*features, learns=frames)(n)).sequence, True, 1)
    if "audio_video" in media:
        audio = _inputs(clip.steps, config.audio.transformer.hidden_size)
        video = _inputs(clip.frames, config.video.transformer.hidden_size)
        fuse = model.audio_video_hidden
        yield _Part("fusion", lambda n: fuse(audio(n), None, video(n), None, cls_only=True).pooled, True, 1)
    if clip.captions:
        yield _Part("text", lambda n: model.text_pooled(torch.zeros(n, TOKENS).long()), True, clip.captions)


def _inputs(*shape: int, learns: bool = True) -> Callable[[int], Tensor]:
    """Makes so many inputs of a shape; `learns`: what made them has a gradient."""
    return lambda count: torch.empty(count, *shape, requires_grad=learns)


def _count(part: _Part, size: int, bf16: bool, backward: bool = True) -> tuple[float, float]:
    """Operations of both passes, and bytes kept between them."""
    kept = Kept()
    counter = FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION)
    with counter, torch.set_grad_enabled(part.trains), kept:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            result = part.work(size)
        between = kept.bytes  # before layers are computed again
        if backward and result.requires_grad:
            result.float().sum().backward()
    return counter.get_total_flops(), between


def _attention(query: Any, key: Any, value: Any, *_rest: Any, **_more: Any) -> int:
    """Of a forward pass, by shapes."""
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(upstream: Any, query: Any, key: Any, value: Any, *_rest: Any, **_more: Any) -> int:
    """Of a backward pass, which computes the shares again."""
    return int(sdpa_backward_flop_count(upstream, query, key, value))


# The counter knows the fused kernels of GPUs alone.
CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


class Kept(torch.autograd.graph.saved_tensors_hooks):
    """Counts the `bytes` that autograd keeps, each storage once."""

    def __init__(self) -> None:
        self.bytes = 0
        self._seen: set[int] = set()
        self._alive: list[Tensor] = []  # a freed storage's number may come again
        super().__init__(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        number = storage._cdata
        if number not in self._seen:
            self._seen.add(number)
            self._alive.append(tensor)
            self.bytes += storage.nbytes()
        return tensor


def _off_meta(model: nn.Module) -> None:
    """Put stand-ins on the CPU, without memory, in the place of tensors on the meta device, which has no autocast."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            own = torch.empty(parameter.shape, dtype=parameter.dtype)
            setattr(module, name, nn.Parameter(own, parameter.requires_grad))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Attend as GPUs do, in training too."""
    before, Attention.fused = Attention.fused, True
    try:
        yield
    finally:
        Attention.fused = before
