"""From decoded windows to embeddings: batches of like lengths, results back in the order of the windows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from peav.errors import NonFiniteError
from peav.inference.isolation import IsolatedReader
from peav.inference.lanes import in_lanes
from peav.inference.sources import Finished, Item, MediaWindow, Streams, WindowReader, read_ahead
from peav.model import PEAV, PEAVConfig
from peav.model.config import FrameEncoderConfig
from peav.model.frame_encoder import to_pixels
from peav.types import DecodeFailure
from peav.utils.progress import by_index

JOINT = {"audio_plus_text": "audio", "video_plus_text": "video"}
T = TypeVar("T")
FRAMES_AT_ONCE = 64
# On a CPU fewer of a large frame encoder: as many as keep the widest activation under 64 MiB, but no fewer than 8,
# below which reading the weights would take longer than multiplying by them.
LEAST_FRAMES, FRAME_BYTES = 8, 64 * 2**20
# A pool is sorted by length before it is cut into batches, so that like windows meet.
POOL_BATCHES = 4
POOL_BYTES = 192 * 2**20  # three pools are in memory at most: decoding, waiting, being embedded


@dataclass(frozen=True, eq=False)
class Embedded:
    """A window and its embeddings: head name -> (output_dim,) float32 on the model's device."""

    clip: MediaWindow
    embeddings: dict[str, Tensor]

    @property
    def index(self) -> int:
        """Which input the window belongs to."""
        return self.clip.index


def embed_inputs(
    model: PEAV,
    inputs: Iterable[Any],
    streams: Streams,
    wanted: Callable[[MediaWindow], tuple[str, ...]],
    texts: Tensor | None = None,
    *,
    sampling_rate: int | None,
    batch_size: int,
    window: float | None,
    show_progress: bool,
    isolate: bool = False,
) -> Iterator[Embedded | DecodeFailure]:
    """Decode and embed every window of every input, in their order.

    Arguments as in `embed_stream`, `sources.WindowReader` and `Encoder.stream`.

    Raises:
        ValueError: a batch size or window that is not above 0.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is at least 1, not {batch_size}")
    reader = reader_for(model.config, streams, window)
    items = IsolatedReader(reader, inputs, sampling_rate) if isolate else reader.read(inputs, sampling_rate)
    results = embed_stream(model, items, wanted, texts, batch_size)
    found = (result for result in results if not isinstance(result, Finished))
    return by_index(found, len(inputs) if isinstance(inputs, Sized) else None, show_progress)


def reader_for(config: PEAVConfig, streams: Streams, window: float | None) -> WindowReader:
    """A reader that decodes for a model. Raises ValueError for a window that is not above 0."""
    if window is not None and not window > 0:
        raise ValueError(f"window is a positive number of seconds or None, not {window}")
    return WindowReader(
        streams=streams,
        window=window,
        rate=config.audio.codec.sampling_rate,
        hop=config.audio.codec.hop_length,
        size=config.video.frame_encoder.image_size,
        num_frames=config.video.num_frames,
        max_steps=config.audio.transformer.max_steps,
    )


def or_raise(results: Iterable[T | DecodeFailure]) -> Iterator[T]:
    """The results; the first input that cannot be read raises its error."""
    for result in results:
        if isinstance(result, DecodeFailure):
            raise result.error
        yield result


def embed_stream(
    model: PEAV,
    items: Iterable[Item],
    wanted: Callable[[MediaWindow], tuple[str, ...]],
    texts: Tensor | None,
    batch_size: int,
    save: Callable[[], None] | None = None,
) -> Iterator[Embedded | DecodeFailure | Finished]:
    """Embed windows as they come and hand back everything in the order it came; decodes ahead in a thread.

    Args:
        wanted: the heads to embed a window with: `audio`, `video`, `audio_video`, `audio_plus_text`, `video_plus_text`.
        texts: (inputs, D) CLS states of the text tower, for the joint heads.
        save: keeps what was handed back. With it, each window is handed back as soon as its batch is done, and it is
            called before the next batch is handed back. What says that an input has ended comes after all of its
            windows either way.

    An embedding that is not finite is never handed back: it makes its input a `DecodeFailure` from there on.
    """
    broken: set[int] = set()
    # The next pool is decoded in a thread while this one is embedded.
    for pool in read_ahead(pools(items, POOL_BATCHES * batch_size)):
        clips = [item for item in pool if isinstance(item, MediaWindow)]
        batches = embed_clips(model, clips, [wanted(clip) for clip in clips], texts, batch_size)
        for result in _joined(pool, clips, batches, save):
            if result.index in broken:
                continue
            if isinstance(result, Embedded) and not all(row.isfinite().all() for row in result.embeddings.values()):
                broken.add(result.index)  # nothing more is said of this input
                yield DecodeFailure(result.index, result.clip.source, _overflow(result.clip))
            else:
                yield result


def _overflow(clip: MediaWindow) -> NonFiniteError:
    return NonFiniteError(
        f"{clip.source}: its embedding at {clip.start:g} s is not finite: the model's numbers overflow on it; "
        "try dtype float32, check the model's weights, or leave the file out"
    )


def _joined(
    pool: Sequence[Item],
    clips: Sequence[MediaWindow],
    batches: Iterable[list[tuple[int, dict[str, Tensor]]]],
    save: Callable[[], None] | None,
) -> Iterator[Embedded | DecodeFailure | Finished]:
    """A pool with its windows embedded, see `embed_stream`."""
    found = ([Embedded(clips[place], embeddings) for place, embeddings in batch] for batch in batches)
    if save is None:
        of_clip = {result.clip: result for batch in found for result in batch}
        yield from (of_clip[item] if isinstance(item, MediaWindow) else item for item in pool)
        return
    for batch in found:
        yield from batch
        save()
    yield from (item for item in pool if not isinstance(item, MediaWindow))
    save()


def own_space(streams: Streams) -> Callable[[MediaWindow], tuple[str, ...]]:
    """Embeds each window in the space of its own modality, or in that of the streams that are asked for."""
    return lambda clip: (clip.modality if streams == "any" else streams,)


def spaces_of(clip: MediaWindow) -> tuple[str, ...]:
    """Every space that a window can be embedded in."""
    return ("audio", "video", "audio_video") if clip.modality == "audio_video" else (clip.modality,)


def pools(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Group items into lists of at most `size` or (nearly) 192 MiB, so that any number of them fits in memory."""
    pool: list[Item] = []
    count = held = 0
    for item in items:
        pool.append(item)
        count += not isinstance(item, Finished)
        held += item.nbytes if isinstance(item, MediaWindow) else 0
        if count >= size or held >= POOL_BYTES:
            yield pool
            pool, count, held = [], 0, 0
    if pool:
        yield pool


def embed_clips(
    model: PEAV, clips: Sequence[MediaWindow], spaces: Sequence[tuple[str, ...]], texts: Tensor | None, batch_size: int
) -> Iterator[list[tuple[int, dict[str, Tensor]]]]:
    """Embed decoded windows, each with its own heads; yields each batch, as places and embeddings of its windows.

    Arguments as in `embed_stream`. On a CPU several batches are computed at a time.
    """
    # Windows of one kind and similar length share a batch, so that little of it is padding.
    order = sorted(range(len(clips)), key=lambda i: (spaces[i], _steps(clips[i]), i))
    batches: list[tuple[tuple[str, ...], list[int]]] = []
    for heads, places in groupby(order, key=lambda i: spaces[i]):
        while batch := list(islice(places, batch_size)):
            batches.append((heads, batch))

    def embedded(one: tuple[tuple[str, ...], list[int]]) -> list[tuple[int, dict[str, Tensor]]]:
        heads, batch = one
        with torch.inference_mode():
            states = None if texts is None else texts[[clips[i].index for i in batch]]
            by_space = _forward(model, [clips[i] for i in batch], heads, states)
            rows = {space: embeddings.float() for space, embeddings in by_space.items()}
            return [(i, {space: row[place] for space, row in rows.items()}) for place, i in enumerate(batch)]

    # A batch alone has all of torch's threads to itself.
    yield from map(embedded, batches) if len(batches) < 2 else in_lanes(embedded, batches, device_and_dtype(model)[0])


def _steps(clip: MediaWindow) -> list[int]:
    return [0 if part is None else len(part) for part in (clip.waveform, clip.frames)]


def _forward(
    model: PEAV, clips: Sequence[MediaWindow], spaces: Iterable[str], texts: Tensor | None
) -> dict[str, Tensor]:
    """Embed one batch of windows that all hold the streams that `spaces` ask for."""
    streams = {JOINT.get(space, space) for space in spaces}
    audio = _audio(model, clips) if streams & {"audio", "audio_video"} else None
    video = _video(model, clips) if streams & {"video", "audio_video"} else None
    pooled: dict[str, Tensor] = {}
    if audio is not None:
        pooled["audio"] = audio[0].pooled
    if video is not None:
        pooled["video"] = video[0].pooled
    if "audio_video" in streams:
        assert audio is not None
        assert video is not None
        fused = model.audio_video_hidden(audio[0].sequence, audio[1], video[0].sequence, video[1], cls_only=True)
        pooled["audio_video"] = fused.pooled
    for space, stream in JOINT.items():
        if space in spaces:
            assert texts is not None, "joint queries need texts"
            pooled[space] = torch.cat([pooled[stream], texts], dim=-1)
    return {space: model.project(pooled[space], space) for space in spaces}


def _audio(model: PEAV, clips: Sequence[MediaWindow]):  # type: ignore[no-untyped-def]
    latents, steps = audio_latents(model, clips)
    return model.audio_hidden(latents, steps), steps


def _video(model: PEAV, clips: Sequence[MediaWindow]):  # type: ignore[no-untyped-def]
    features, lengths = video_features(model, clips)
    return model.video_hidden(features, lengths), lengths


def audio_latents(model: PEAV, clips: Sequence[MediaWindow]) -> tuple[Tensor, Tensor]:
    """Of the windows that have sound: latents (B, T, C) and their lengths (B,), these in the CPU's memory."""
    device, dtype = device_and_dtype(model)
    waveforms = [clip.waveform for clip in clips if clip.waveform is not None]
    samples = [len(waveform) for waveform in waveforms]
    batch = pad_sequence([torch.from_numpy(waveform) for waveform in waveforms], batch_first=True)  # (B, S)
    lengths = torch.tensor(samples)
    latents = model.encode_codec(batch.to(device, dtype), lengths)  # (B, T, C)
    return latents, lengths // model.config.audio.codec.hop_length


def video_features(model: PEAV, clips: Sequence[MediaWindow]) -> tuple[Tensor, Tensor]:
    """Of the windows that have pictures: frame features (B, N, F) and their lengths (B,), these in the CPU's memory."""
    frames = [clip.frames for clip in clips if clip.frames is not None]
    counts = [len(part) for part in frames]
    # One run of the encoder over all clips' frames, then (N, F) for each clip: (M, F) needs no padding.
    joined = frames[0] if len(frames) == 1 else np.concatenate(frames)
    features = torch.split(frame_features(model, joined), counts)
    return pad_sequence(list(features), batch_first=True), torch.tensor(counts)


def frame_features(model: PEAV, frames: np.ndarray) -> Tensor:
    """(M, size, size, 3) uint8 -> (M, F), a fixed number of frames at a time; pixels scaled to [-1, 1].

    Frames that are equal, as in still pictures and slides, are encoded once.
    """
    device, dtype = device_and_dtype(model)
    digests = [hashlib.sha256(frame).digest() for frame in np.ascontiguousarray(frames)]
    # Of each different frame the first place: the later ones are overwritten by those before them.
    first = sorted({digest: place for place, digest in reversed(list(enumerate(digests)))}.values())
    distinct = frames if len(first) == len(frames) else frames[first]
    at_once = frames_at_once(model.config.video.frame_encoder) if device.type == "cpu" else FRAMES_AT_ONCE
    chunks = torch.split(torch.from_numpy(distinct), at_once)
    features = torch.cat([model.frame_features(to_pixels(chunk.to(device), dtype)) for chunk in chunks])
    if distinct is frames:
        return features
    row = {digests[place]: i for i, place in enumerate(first)}
    return features[torch.tensor([row[digest] for digest in digests], device=device)]


def frames_at_once(config: FrameEncoderConfig) -> int:
    """How many frames a frame encoder is given at a time on a CPU."""
    widest = (config.grid**2 + config.use_cls_token) * config.mlp_width * 4  # bytes of a frame, in the MLP
    return min(max(FRAME_BYTES // widest, LEAST_FRAMES), FRAMES_AT_ONCE)


def device_and_dtype(model: torch.nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where the model's weights are and of what dtype."""
    weight = next(model.parameters())
    return weight.device, weight.dtype
