"""Recordings of any length through a tower that sees all its frames at once: windows at fixed places, cross-faded.

`FrameStream` resamples what is pushed, `CodecStream` makes latents of it, `OverlapAdd` scores them window by window.

The one way in which frames are scored, live or from a file: whoever pushes the samples, and in whatever blocks, the
codec and the tower see the same windows of them, so that the scores are the same bit for bit.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from peav.inference.batching import device_and_dtype
from peav.media import Resampler, pad_to_hop
from peav.model import PEAFrame
from peav.model.codec import receptive_field
from peav.types import FRAME


@dataclass(frozen=True)
class StreamingWindow:
    """Where the tower's windows lie, in seconds, rounded to frames of 40 ms.

    Window i settles the frames from `i * hop` to `(i + 1) * hop` and sees `left_context` seconds before and `lookahead`
    seconds after them. Its scores of the frames ahead fade out, linearly, into those of window i + 1. The last window
    ends with the recording and is as long as the others, where the recording is; a recording of up to `hop + lookahead`
    seconds is one window. Every place follows from the recording alone.

    The tower attends to all of its window, so that a score depends on what else the window holds, and other windows
    give other scores; docs/results.md says how far. A longer `lookahead` fades over more, which costs time and evens
    that out.

    Raises:
        ValueError: no hop, or a lookahead longer than the hop.
    """

    left_context: float = 10.0
    hop: float = 10.0
    lookahead: float = 10.0

    def __post_init__(self) -> None:
        seconds = (self.left_context, self.hop, self.lookahead)
        if not all(0 <= value < math.inf for value in seconds) or self.frames[1] < 1:
            raise ValueError(f"{self}: give seconds, and a hop of at least {FRAME} s")
        if self.lookahead > self.hop:
            raise ValueError(f"{self}: more than one window ahead; give a lookahead of at most {self.hop} s")

    @property
    def frames(self) -> tuple[int, int, int]:
        """`left_context`, `hop` and `lookahead` in frames."""
        return round(self.left_context / FRAME), round(self.hop / FRAME), round(self.lookahead / FRAME)


def Windowing(past: float = 10.0, step: float = 10.0, ahead: float = 10.0) -> StreamingWindow:  # noqa: N802
    """The former name of `StreamingWindow`."""
    warnings.warn(
        "Windowing(past, step, ahead) is StreamingWindow(left_context, hop, lookahead) now",
        DeprecationWarning,
        stacklevel=2,
    )
    return StreamingWindow(past, step, ahead)


RECORDED = StreamingWindow()
LIVE = StreamingWindow(left_context=8.0, hop=1.0, lookahead=1.0)
SECONDS_AT_ONCE = 10  # of sound that the codec is given, at most


class CodecStream:
    """Samples in, codec latents out, in blocks that end where windows do.

    Args:
        encode: (S,) float32, whole latents -> (S / hop_length, C).
        hop_length: samples of one latent.
        halo: latents of context to either side that make a block's latents those of the whole recording.
        first, hop: latents in the first block and in every other one.
    """

    def __init__(
        self, encode: Callable[[np.ndarray], Tensor], hop_length: int, halo: int, first: int, hop: int
    ) -> None:
        self.encode, self.hop_length, self.halo, self.hop = encode, hop_length, halo, hop
        self.stop = first  # where the next block ends, in latents
        self.done = 0  # latents given out
        self.begin = 0  # place of the first sample that is held
        self.end = 0  # place after the last one
        self.parts: list[np.ndarray] = []

    def push(self, samples: np.ndarray) -> list[Tensor]:
        """Samples (S,) of any number; returns the blocks that they complete."""
        self.parts.append(samples)
        self.end += len(samples)
        blocks = []
        # A block waits for its context on the right: only then are its latents those of the whole recording.
        while self.end >= (self.stop + self.halo) * self.hop_length:
            blocks.append(self._block(self.stop))
            self.stop += self.hop
        return blocks

    def finish(self) -> list[Tensor]:
        """The latents of what is left, the recording's end mirrored to a whole latent."""
        steps = -(-self.end // self.hop_length)
        if steps == self.done:
            return []
        return [self._block(steps)]

    def _block(self, stop: int) -> Tensor:
        """Latents from `done` to `stop`."""
        held = np.concatenate(self.parts)
        # Cut to the context even where more has come: what the codec is given, and so its rounding, must follow from
        # the recording alone, not from the blocks that were pushed. Live and offline are bit-equal by this.
        samples = held[: (stop + self.halo) * self.hop_length - self.begin]
        first = self.begin // self.hop_length
        block = self.encode(pad_to_hop(samples, self.hop_length))[self.done - first : stop - first]
        self.done = stop
        begin = max(stop - self.halo, 0) * self.hop_length
        # A view would keep all of `held` alive.
        self.parts = [held[begin - self.begin :].copy()]
        self.begin = begin
        return block


class OverlapAdd:
    """Latents in, scores of settled frames out.

    Args:
        score: latents (T, C) -> (labels, T) probabilities.
        window: where windows lie.
        labels: how many there are.
    """

    def __init__(self, score: Callable[[Tensor], Tensor], window: StreamingWindow, labels: int) -> None:
        self.score = score
        self.left_context, self.hop, self.lookahead = window.frames
        self.start = 0  # of the frames that the next window settles
        self.begin = 0  # of the latents that are held
        self.latents: Tensor | None = None
        self.tail = torch.zeros(labels, 0)  # the last window's scores of the frames ahead of it

    @property
    def end(self) -> int:
        """The frame after the last one that has come."""
        return self.begin + (0 if self.latents is None else len(self.latents))

    def push(self, latents: Tensor) -> list[Tensor]:
        """The next latents (T, C); returns the scores (labels, hop) of every window that they complete."""
        self.latents = latents if self.latents is None else torch.cat([self.latents, latents])
        settled = []
        while self.end >= (stop := self.start + self.hop + self.lookahead):
            scores = self._window(max(self.start - self.left_context, 0), stop)
            settled.append(scores[:, : self.hop])
            self.tail = scores[:, self.hop :]
            self.start += self.hop
            # The last window reaches back from the recording's end by the length of a whole one.
            keep = max(self.start - self.left_context - self.hop, self.begin)
            self.latents, self.begin = self.latents[keep - self.begin :].clone(), keep  # or all would stay
        return settled

    def finish(self) -> Tensor:
        """The scores (labels, T) of the frames that are left."""
        # The last window ended just here: its scores ahead stand, with no later ones to fade into.
        if self.end == self.start + self.tail.shape[1]:
            return self.tail
        return self._window(max(self.end - self.left_context - self.hop - self.lookahead, 0), self.end)

    def _window(self, first: int, stop: int) -> Tensor:
        """Scores of the frames from `start` to `stop`, seen from `first` on; the tail fades into them."""
        assert self.latents is not None
        scores = self.score(self.latents[first - self.begin : stop - self.begin])[:, self.start - first :]
        faded = self.tail.shape[1]
        if faded:
            # From 1 / (n + 1) to n / (n + 1): both windows count in every frame of the fade.
            weight = torch.arange(1, faded + 1, device=scores.device) / (faded + 1)
            blend = weight * scores[:, :faded] + (1 - weight) * self.tail
            scores = torch.cat([blend, scores[:, faded:]], dim=1)
        return scores


class FrameStream:
    """Scores of a recording that is still going on; made by `Detector.stream`.

    Push samples in blocks of any size: every push returns the frames that it settles, for good. The blocks make no
    difference: all that comes back, joined, equals `Detector.scores` with the same `StreamingWindow`, bit for bit.

    Attributes:
        labels: the names of the rows.
        latency: seconds from the start of a frame to when it is settled, at most: one hop and its lookahead, and
            six frames of the codec's context. Resampling adds some milliseconds.
    """

    def __init__(
        self,
        model: PEAFrame,
        labels: tuple[str, ...],
        embeddings: Tensor,
        sampling_rate: int,
        window: StreamingWindow,
    ) -> None:
        codec = model.config.audio.codec
        self.labels = labels
        self._model, self._texts = model, embeddings
        self._device, self._dtype = device_and_dtype(model)
        self._resampler = Resampler(sampling_rate, codec.sampling_rate)
        _, hop, lookahead = window.frames
        if sum(window.frames) > (most := model.config.audio.transformer.max_steps):
            raise ValueError(f"{window}: longer than the tower's {most} frames")
        # In whole latents, rounded up; `last` is the convolution after the blocks.
        halo = -(-receptive_field(codec.strides, last=1) // codec.hop_length)
        self.latency = (hop + lookahead + halo) * FRAME
        # Blocks of latents end where windows do, so that no window waits for a block longer than it must.
        self._codec = CodecStream(self._encode, codec.hop_length, halo, hop + lookahead, hop)
        self._tower = OverlapAdd(self._score, window, len(self.labels))
        self._finished = False

    @property
    def duration(self) -> float:
        """Seconds of sound so far."""
        return self._codec.end / self._model.config.audio.codec.sampling_rate

    def push(self, samples: Any) -> np.ndarray:
        """The next samples, (S,) or (C, S); returns (labels, T) float32 of the frames that are now settled.

        T is 0 for most small blocks. Nothing may be pushed after `finish`.

        Raises:
            NonFiniteError: NaN or infinity among them; this block is left out, and the stream can go on.
            UnsupportedInputError: no array of samples, or another number of channels than before.
        """
        self._check_open()
        count = samples.numel() if isinstance(samples, Tensor) else np.size(samples)
        return self._settle(self._resampler.push(samples) if count else np.empty(0, np.float32))

    def finish(self) -> np.ndarray:
        """The end of the recording; returns (labels, T) float32 of the frames that are left."""
        self._check_open()
        self._finished = True
        settled = self._settle(self._resampler.finish())
        with torch.inference_mode():
            parts = [scores for latents in self._codec.finish() for scores in self._tower.push(latents)]
            rest = _joined([*parts, self._tower.finish()], len(self.labels))
        return np.concatenate([settled, rest], axis=1)

    def state(self) -> dict[str, Any]:
        """All that it holds between two blocks of 48 kHz sound, for `resume` in another process: plain values and
        tensors.
        """
        # The resampler has nothing to save: at 48 kHz it holds no samples back.
        codec, tower = self._codec, self._tower
        held = {name: getattr(codec, name) for name in ("stop", "done", "begin", "end")}
        held["samples"] = torch.from_numpy(np.concatenate([np.empty(0, np.float32), *codec.parts]))
        return {"codec": held, "tower": {name: getattr(tower, name) for name in ("start", "begin", "latents", "tail")}}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`, as if this stream had been given the same blocks."""
        held = dict(state["codec"])
        self._codec.parts = [held.pop("samples").numpy()]
        for part, values in ((self._codec, held), (self._tower, state["tower"])):
            for name, value in values.items():
                setattr(part, name, value.to(self._device) if isinstance(value, Tensor) else value)

    def _check_open(self) -> None:
        if self._finished:
            raise ValueError("this stream is finished; make a new one for the next recording")

    def _settle(self, waveform: np.ndarray) -> np.ndarray:
        # In slices, since each block joins all that is held: an hour pushed at once would be copied for every block.
        size = SECONDS_AT_ONCE * self._model.config.audio.codec.sampling_rate
        with torch.inference_mode():
            parts = [
                scores
                for at in range(0, len(waveform), size)
                for latents in self._codec.push(waveform[at : at + size])
                for scores in self._tower.push(latents)
            ]
        return _joined(parts, len(self.labels))

    def _encode(self, waveform: np.ndarray) -> Tensor:
        """(S,) -> latents (T, C)."""
        return self._model.encode_codec(torch.from_numpy(waveform)[None].to(self._device, self._dtype))[0]

    def _score(self, latents: Tensor) -> Tensor:
        """(T, C) -> probabilities (labels, T) float32."""
        frames = self._model.audio_frames(latents[None])
        return self._model.score(frames, self._texts)[0].float().sigmoid()


def _joined(parts: Sequence[Tensor], labels: int) -> np.ndarray:
    """(labels, T) float32 on the CPU."""
    arrays = [part.cpu().numpy() for part in parts]
    return np.concatenate([np.empty((labels, 0), np.float32), *arrays], axis=1)
