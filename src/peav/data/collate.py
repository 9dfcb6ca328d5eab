"""From clips to one padded batch: captions are drawn and tokenized, streams that are missing are marked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from peav.data.manifest import Row
from peav.features.extract import ClipFeatures
from peav.inference.text import tokenize
from peav.types import MODALITIES

TargetMaker = Callable[[Row, int], np.ndarray]
"""What an auxiliary loss knows of each of so many latents of a clip: (T,) int64, below 0 where it knows nothing."""


@dataclass(frozen=True)
class Movable:
    """Tensors, others like it, and mappings and tuples of these, which go to a device together."""

    def to(self, device: torch.device) -> Self:
        """The same on a device; what has no device stays."""
        return replace(self, **{name: _moved(value, device) for name, value in vars(self).items()})


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Mapping):
        return {name: _moved(one, device) for name, one in value.items()}
    if isinstance(value, tuple):
        return tuple(_moved(one, device) for one in value)
    return value.to(device) if isinstance(value, (Tensor, Movable)) else value


@dataclass(frozen=True)
class Texts(Movable):
    """The captions of one kind: `ids` (B, L) int64, `mask` (B, L) bool, `present` (B,) bool, `groups` (B,) int64.

    Equal texts share a group, in every batch and process, so that they are not held against each other.
    """

    ids: Tensor
    mask: Tensor
    present: Tensor
    groups: Tensor


@dataclass(frozen=True)
class Batch(Movable):
    """B clips. Rows without a stream have length 0 in it and anything as content.

    `audio`: latents (B, T, latent_dim), or waveforms (B, S) where the codec runs in the step; `audio_lengths` (B,) in
    latents or samples. `frames`: (B, N, size, size, 3) uint8, or (B, N, F) features where the frame encoder is frozen;
    `frame_lengths` (B,). `groups`: for `audio` and `video`, (B,) int64: equal media share a number in every batch and
    process, so that a clip that is drawn twice is not held against itself. `targets`: (B, T) int64 by auxiliary loss,
    below 0 where nothing is known.
    """

    ids: list[str]
    audio: Tensor
    audio_lengths: Tensor
    frames: Tensor
    frame_lengths: Tensor
    texts: Mapping[str, Texts]
    groups: Mapping[str, Tensor]
    targets: Mapping[str, Tensor] = field(default_factory=dict)


class Collator:
    """Makes batches; every random draw comes from the generator that a call is given.

    `transcript_share` is how often a clip with a transcript has it for its audio caption (a transcript is an audio
    caption in phase 2 of the paper). `real_share` is how often a clip that has both kinds has a caption that people
    wrote, and not a synthetic one (1 : 10 in the paper). `targets` are what auxiliary losses know of each latent.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_tokens: int,
        transcript_share: float = 0.5,
        real_share: float = 1 / 11,
        targets: Mapping[str, TargetMaker] | None = None,
    ) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self.transcript_share, self.real_share = transcript_share, real_share
        self.targets = targets or {}

    def __call__(
        self,
        rows: Sequence[Row],
        clips: Sequence[ClipFeatures],
        rng: np.random.Generator,
        part: slice = slice(None),
    ) -> Batch:
        """The batch of `rows[part]`, whose features `clips` are; captions are drawn for all rows, so that processes
        which share a batch draw the same ones as one process with all of it.
        """
        captions = {kind: [self.draw(row, kind, rng) for row in rows][part] for kind in MODALITIES}
        rows = rows[part]
        heard = [clip.latents if clip.latents is not None else clip.waveform for clip in clips]
        seen = [clip.frames for clip in clips]
        audio, audio_lengths = _pad(heard)
        frames, frame_lengths = _pad(seen)
        return Batch(
            ids=[row.id for row in rows],
            audio=audio.float(),  # stored as float16
            audio_lengths=audio_lengths,
            frames=frames,
            frame_lengths=frame_lengths,
            texts={kind: self.tokenized(texts) for kind, texts in captions.items()},
            groups={"audio": _media_groups(heard), "video": _media_groups(seen)},
            targets={name: _targets(make, rows, clips, audio.shape[1]) for name, make in self.targets.items()},
        )

    def drawn(self, row: Row, rng: np.random.Generator) -> Row:
        """The row with no captions but those that were drawn: a batch of it has these, whatever it is drawn with."""
        texts = {kind: self.draw(row, kind, rng) for kind in MODALITIES}
        captions: dict[str, list[str]] = {kind: [text] for kind, text in texts.items() if text is not None}
        return replace(row, captions=captions, synthetic={}, transcript=None)

    def draw(self, row: Row, kind: str, rng: np.random.Generator) -> str | None:
        """A caption of a row, or None: there is none of that kind."""
        captions = row.captions.get(kind, [])
        says = kind == "audio" and bool(row.transcript) and (rng.random() < self.transcript_share or not captions)
        if says:
            return row.transcript
        made = row.synthetic.get(kind, [])
        real = [caption for caption in captions if caption not in made]
        if made and real:
            captions = real if rng.random() < self.real_share else made
        return captions[rng.integers(len(captions))] if captions else None

    def tokenized(self, texts: Sequence[str | None]) -> Texts:
        """Texts as the model reads them; None is marked as missing."""
        ids, mask = tokenize(self.tokenizer, [text or "" for text in texts], self.max_tokens)
        return Texts(
            ids=ids,
            mask=mask,
            present=torch.tensor([text is not None for text in texts]),
            groups=torch.tensor([_number((text or "").encode()) for text in texts]),
        )


def _targets(make: TargetMaker, rows: Sequence[Row], clips: Sequence[ClipFeatures], size: int) -> Tensor:
    """(B, size) int64; -1 past a clip's end and in clips whose sound is a waveform, since the codec trains."""
    targets = torch.full((len(rows), size), -1)
    for target, row, clip in zip(targets, rows, clips, strict=True):
        if clip.latents is not None:
            target[: len(clip.latents)] = torch.from_numpy(make(row, len(clip.latents)))
    return targets


def _media_groups(arrays: Sequence[np.ndarray | None]) -> Tensor:
    """(B,) int64 by content: a near miss is not the clip that it was made of, though it has its id and its file."""
    return torch.tensor([_number(b"" if array is None else array.tobytes()) for array in arrays])


def _number(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big", signed=True)


def _pad(arrays: Sequence[np.ndarray | None]) -> tuple[Tensor, Tensor]:
    """Stack along a new first axis, zeros after each array's end; None counts as empty."""
    lengths = [0 if array is None else len(array) for array in arrays]
    some = next((array for array in arrays if array is not None), None)
    if some is None:
        return torch.zeros(len(arrays), 0), torch.zeros(len(arrays), dtype=torch.int64)
    padded = np.zeros((len(arrays), max(lengths), *some.shape[1:]), dtype=some.dtype)
    for target, array in zip(padded, arrays, strict=True):
        if array is not None:
            target[: len(array)] = array
    return torch.from_numpy(padded), torch.tensor(lengths)
