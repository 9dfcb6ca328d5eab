"""The parts of a model as calls to be timed: ours, and transformers' with the same weights and inputs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from peav.bench.measure import Work
from peav.checkpoint.bundle import Checkpoint
from peav.checkpoint.convert import write_checkpoint
from peav.inference.batching import frames_at_once
from peav.inference.text import of_like_length
from peav.model import PEAV

SHORTEST, LONGEST = 4, 64  # tokens of a caption, as recipes draw them
OURS, THEIRS = "peav", "transformers"


@dataclass(frozen=True)
class Sizes:
    """How much a part is given: `seconds` of sound, video `frames` of a clip, `clips` in a training step, `texts`."""

    seconds: float = 10.0
    frames: int = 4
    clips: int = 2
    texts: int = 64


@dataclass(frozen=True)
class Part:
    """One part: a call for each implementation, all of them on `amount` of a `unit`."""

    name: str
    unit: str
    amount: float
    works: dict[str, Work] = field(default_factory=dict)
    gradients: bool = False


def their_model(model: PEAV) -> Any:
    """transformers' model with the same weights, device and dtype.

    Raises:
        ImportError: transformers, or what it needs for this model (timm, torchvision), is not there or does not load.
    """
    import transformers
    from transformers import PeAudioVideoModel

    transformers.logging.set_verbosity_error()
    weight = next(model.parameters())
    with tempfile.TemporaryDirectory() as folder:
        tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
        write_checkpoint(Checkpoint(model.config, tensors), Path(folder), "transformers")
        theirs: Any = PeAudioVideoModel.from_pretrained(folder, dtype=weight.dtype)
    return theirs.to(weight.device).eval()


def parts(model: PEAV, theirs: Any | None, sizes: Sizes) -> list[Part]:
    """Every part of `model`, and of transformers' where it is given."""
    return [make(model, theirs, sizes) for make in (_codec, _audio, _frames, _text, _training)]


def _part(name: str, unit: str, amount: float, ours: Work, theirs: Work | None, gradients: bool = False) -> Part:
    return Part(name, unit, amount, {OURS: ours} | ({} if theirs is None else {THEIRS: theirs}), gradients)


def _with(theirs: Any | None, work: Callable[[Any], object]) -> Work | None:
    return None if theirs is None else lambda: work(theirs)


def _sound(model: PEAV, clips: int, seconds: float) -> Tensor:
    """(clips, S) noise, whole hops."""
    codec = model.config.audio.codec
    hops = round(seconds * codec.sampling_rate / codec.hop_length)
    return _random(model, clips, hops * codec.hop_length) * 0.2 - 0.1


def _pixels(model: PEAV, count: int) -> Tensor:
    size = model.config.video.frame_encoder.image_size
    return _random(model, count, 3, size, size) * 2 - 1


def _random(model: PEAV, *shape: int) -> Tensor:
    weight = next(model.parameters())
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)).to(weight.device, weight.dtype)


def _captions(model: PEAV, count: int) -> tuple[Tensor, Tensor, list[int]]:
    """Token ids (count, L) and mask of captions padded to the longest, and their lengths."""
    random = torch.Generator().manual_seed(0)
    lengths = torch.randint(SHORTEST, LONGEST + 1, (count,), generator=random)
    ids = torch.randint(3, model.config.text.vocab_size, (count, int(lengths.max())), generator=random)
    mask = torch.arange(ids.shape[1]) < lengths[:, None]
    device = next(model.parameters()).device
    return ids.to(device), mask.to(device), lengths.tolist()


def _codec(model: PEAV, theirs: Any | None, sizes: Sizes) -> Part:
    waveform = _sound(model, 1, sizes.seconds)

    def work(other: Any) -> object:
        embedder = other.audio_model.audio_encoder.embedder
        return embedder.bottleneck(embedder.dac_encoder(waveform[:, None]))

    return _part("codec", "second of sound", sizes.seconds, lambda: model.encode_codec(waveform), _with(theirs, work))


def _audio(model: PEAV, theirs: Any | None, sizes: Sizes) -> Part:
    waveform = _sound(model, 1, sizes.seconds)
    return _part(
        "audio encoder",
        "second of sound",
        sizes.seconds,
        lambda: model.audio_hidden(model.encode_codec(waveform)),
        _with(theirs, lambda other: other.audio_model.audio_encoder(input_values=waveform[:, None])),
    )


def _frames(model: PEAV, theirs: Any | None, sizes: Sizes) -> Part:
    pixels = _pixels(model, sizes.frames)
    at_once = frames_at_once(model.config.video.frame_encoder)

    def ours() -> Tensor:
        return torch.cat([model.frame_features(some) for some in pixels.split(at_once)])

    return _part(
        "frame encoder",
        "frame",
        sizes.frames,
        ours,
        _with(theirs, lambda other: other.video_model.video_encoder.embedder.vision_model(pixels)),
    )


def _text(model: PEAV, theirs: Any | None, sizes: Sizes) -> Part:
    ids, mask, lengths = _captions(model, sizes.texts)

    def ours() -> None:
        for rows in of_like_length(lengths, 32):
            longest = lengths[rows[-1]]
            model.text_pooled(ids[rows, :longest], mask[rows, :longest])

    return _part(
        "text encoder",
        "caption",
        sizes.texts,
        ours,
        _with(theirs, lambda other: other.text_model(input_ids=ids, attention_mask=mask)),
    )


def _training(model: PEAV, theirs: Any | None, sizes: Sizes) -> Part:
    """Forward and backward of clips with a caption each; the codec has no gradients in either."""
    waveform, pixels = _sound(model, sizes.clips, sizes.seconds), _pixels(model, sizes.clips * sizes.frames)
    pixels = pixels.unflatten(0, (sizes.clips, sizes.frames))
    ids, mask, _ = _captions(model, sizes.clips)

    def ours() -> None:
        with torch.no_grad():
            latents = model.encode_codec(waveform)
        audio = model.audio_hidden(latents)
        video = model.video_hidden(model.frame_features(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2]))
        both = model.audio_video_hidden(audio.sequence, None, video.sequence, None, cls_only=True)
        pooled = {"audio": audio.pooled, "video": video.pooled, "audio_video": both.pooled}
        embeddings = [model.project(state, head) for head, state in pooled.items()]
        _backward(model, [*embeddings, model.project(model.text_pooled(ids, mask), "text_audio_video")])

    def work(other: Any) -> None:
        given = other.get_audio_video_embeds(
            waveform[:, None], pixels, return_audio_embeds=True, return_video_embeds=True
        )
        state = other.text_model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
        embeddings = [given.audio_embeds, given.video_embeds, given.audio_video_embeds]
        _backward(other, [*embeddings, other.text_audio_video_head(state)])

    return _part("training step", "clip", sizes.clips, ours, _with(theirs, work), gradients=True)


def _backward(model: torch.nn.Module, embeddings: list[Tensor]) -> None:
    torch.stack([embedding.float().square().mean() for embedding in embeddings]).sum().backward()
    model.zero_grad(set_to_none=True)
