"""Detector: when anything described in words sounds in a recording (PE-A-Frame, arXiv 2512.19687)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from peav.errors import LabelError, MediaError, UnsupportedInputError
from peav.events.postprocess import THRESHOLD, Postprocessing, find_events
from peav.events.types import FrameScores
from peav.inference.batching import place
from peav.inference.pretrained import Pretrained
from peav.inference.sources import is_single, name_of, read_ahead, unwrap
from peav.inference.streaming import LIVE, RECORDED, LatentBlocks, Stitcher, Windowing
from peav.media import Resampler, as_waveform, iter_audio
from peav.model import PEAFrame
from peav.model.codec import reach
from peav.types import FRAME, Event
from peav.utils.labels import readable

SECONDS_AT_ONCE = 10


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels that the text tower has read: names, and a row of `embeddings` (N, output_dim) for each."""

    names: tuple[str, ...]
    embeddings: Tensor


Wanted = str | Sequence[str] | Mapping[str, str] | Labels


class Detector(Pretrained[PEAFrame]):
    """Finds when sounds that labels describe are heard; made by `Detector.load`.

    Labels are any words, one or many: `dog barking`, `a door is slammed`, `door_slam` (read without its underscore); a
    mapping gives each label the words that the model reads for it. Each is read once a call, or once for many calls
    with `encode_labels`. Words past the model's 512 tokens do not count.

    Recordings are paths, bytes, binary file objects, or waveforms ((S,) or (C, S), with `sampling_rate=`), of any
    length, in bounded memory. The last frame is completed by mirroring the recording's end, also where all of it is
    shorter than one frame of 40 ms; no event ends past the recording. Bad ones raise the `peav.media.MediaError` (a
    ValueError) that says what is wrong with them.

    A frame's score depends on the recording, the labels and the `Windowing` alone, bit for bit: how the samples came,
    from a file or live in blocks of any size, makes no difference.
    """

    _kind = PEAFrame
    _other = "a PE-AV checkpoint, which embeds whole clips: peav.load"

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str],
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> Detector:
        """Load a PE-A-Frame model.

        Args:
            name: `frame-tiny` (shipped, offline), a hub name such as `facebook/pe-a-frame-large`, or a directory in any
                of the three layouts.
            device: where to put it; None: the first GPU if there is one, else the CPU.
            dtype: of weights and computation, such as `"bfloat16"`; None: float32.
            revision: branch, tag or commit on the hub.
            cache_dir: where downloads are kept; None: the hub's own cache.

        Raises:
            CheckpointError: nothing there, an unreachable hub, a missing or unknown tensor, a PE-AV checkpoint.
        """
        return cls.from_pretrained(name, device=device, dtype=dtype, revision=revision, cache_dir=cache_dir)

    def detect(
        self,
        audio: Any,
        labels: Wanted,
        threshold: float | Mapping[str, float] = THRESHOLD,
        *,
        sampling_rate: int | None = None,
        low: float = 1.0,
        median: float = 0.0,
        min_gap: float = 0.0,
        min_length: float = 0.0,
        windowing: Windowing = RECORDED,
    ) -> list[Event]:
        """The events of a recording, by onset.

        Args:
            audio: one recording; see the class.
            labels: what to listen for.
            threshold: the probability above which a label sounds, for all of them or by label.
            sampling_rate: of a waveform, in Hz.
            low, median, min_gap, min_length: see `peav.events.Postprocessing`.
            windowing: how a long recording is cut; see `peav.inference.streaming.Windowing`.

        Raises:
            LabelError: no labels, an empty one, one twice.
            ValueError: postprocessing that makes no sense, a checkpoint without a tokenizer.
            MediaError: a recording that cannot be read.
        """
        how = Postprocessing(threshold, low, median, min_gap, min_length)
        return find_events(self.scores(audio, labels, sampling_rate=sampling_rate, windowing=windowing), how)

    def scores(
        self,
        audio: Any,
        labels: Wanted,
        *,
        sampling_rate: int | None = None,
        windowing: Windowing = RECORDED,
    ) -> FrameScores:
        """The probability of every label in every frame of 40 ms; arguments and errors as in `detect`."""
        stream = self.stream(labels, windowing=windowing)
        parts = [stream.push(block) for block in self._blocks(audio, sampling_rate)]
        return FrameScores(stream.labels, np.concatenate([*parts, stream.finish()], axis=1), stream.duration)

    def stream(self, labels: Wanted, *, sampling_rate: int | None = None, windowing: Windowing = LIVE) -> FrameStream:
        """Score sound while it comes in; see `FrameStream`.

        Args:
            sampling_rate: of what will be pushed, in Hz; None: the model's own, 48 kHz.
            windowing: more `step` and `ahead` mean more delay and less work.
        """
        rate = self.sampling_rate if sampling_rate is None else sampling_rate
        return FrameStream(self, self.encode_labels(labels), rate, windowing)

    def encode_labels(self, labels: Wanted) -> Labels:
        """Read labels once, to give them to any number of calls.

        Raises:
            LabelError: no labels, an empty one, one twice, something that is no string.
            ValueError: a checkpoint without a tokenizer.
        """
        if isinstance(labels, Labels):
            return labels
        names = check_labels(labels)
        texts = [labels[name] if isinstance(labels, Mapping) else readable(name) for name in names]
        # One at a time: a label's scores are then its own, whatever it stands beside.
        states = self._text_states(check_labels(texts, repeats=True), batch_size=1)
        with torch.inference_mode():
            return Labels(names, self.model.heads["text"](states))

    @property
    def sampling_rate(self) -> int:
        """Of the samples that the model hears, in Hz."""
        return self.model.config.audio.codec.sampling_rate

    def _blocks(self, audio: Any, sampling_rate: int | None) -> Iterator[np.ndarray]:
        """The recording as mono blocks of a few seconds at the model's rate."""
        audio, sampling_rate = unwrap(audio, sampling_rate)
        if not is_single(audio) or isinstance(audio, Mapping):
            raise UnsupportedInputError(
                "one recording at a time: a path, bytes, a file object, an array or Hugging Face's audio; use a loop"
            )
        if not isinstance(audio, np.ndarray | Tensor):
            blocks = iter_audio(audio, float(SECONDS_AT_ONCE), sampling_rate=self.sampling_rate)
            yield from (block for _, block in read_ahead(blocks))
            return
        name = name_of(audio, 0)
        if sampling_rate is None:
            raise UnsupportedInputError(f"{name}: an array of samples needs sampling_rate= in Hz")
        try:
            waveform = as_waveform(audio, sampling_rate, self.sampling_rate)
        except MediaError as error:
            raise type(error)(f"{name}: {error}") from error
        size = SECONDS_AT_ONCE * self.sampling_rate
        yield from (waveform[at : at + size] for at in range(0, len(waveform), size))


class FrameStream:
    """Scores of a recording that is still going on; made by `Detector.stream`.

    Push samples in blocks of any size: every push returns the frames that it settles, for good. The blocks make no
    difference: all that comes back, joined, equals `Detector.scores` with the same windowing, bit for bit.

    Attributes:
        labels: the names of the rows.
        latency: seconds from the start of a frame to when it is settled, at most: one step and what lies ahead of it,
            and six frames of the codec's context. Resampling adds some milliseconds.
    """

    def __init__(self, detector: Detector, labels: Labels, sampling_rate: int, windowing: Windowing) -> None:
        codec, model = detector.model.config.audio.codec, detector.model
        self.labels = labels.names
        self._model, self._texts = model, labels.embeddings
        self._device, self._dtype = place(model)
        self._resampler = Resampler(sampling_rate, codec.sampling_rate)
        _, step, ahead = windowing.steps
        if sum(windowing.steps) >= model.config.audio.transformer.max_positions:
            raise ValueError(
                f"{windowing}: longer than the tower's {model.config.audio.transformer.max_positions} frames"
            )
        halo = -(-reach(codec.strides, last=1) // codec.hop_length)
        self.latency = (step + ahead + halo) * FRAME
        self._codec = LatentBlocks(self._encode, codec.hop_length, halo, step + ahead, step)
        self._tower = Stitcher(self._score, windowing, len(self.labels))
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
        tensors."""
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
                setattr(
                    part, name, value.to(self._device) if name in ("latents", "tail") and value is not None else value
                )

    def _check_open(self) -> None:
        if self._finished:
            raise ValueError("this stream is finished; make a new one for the next recording")

    def _settle(self, waveform: np.ndarray) -> np.ndarray:
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


def check_labels(labels: str | Iterable[str], repeats: bool = False) -> tuple[str, ...]:
    """The labels as they are, one or many. Raises LabelError where they cannot be looked for."""
    names = (labels,) if isinstance(labels, str) else tuple(labels)
    if not names:
        raise LabelError("no labels: name at least one sound to listen for")
    for name in names:
        if not isinstance(name, str):
            raise LabelError(f"a label is a string, not {type(name).__name__}")
        if not name.strip():
            raise LabelError("an empty label: every label says what to listen for")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice and not repeats:
        raise LabelError(f"{', '.join(map(repr, twice))} stands twice among the labels; give each once")
    return names


def _joined(parts: Sequence[Tensor], labels: int) -> np.ndarray:
    """(labels, T) float32 on the CPU."""
    arrays = [part.cpu().numpy() for part in parts]
    return np.concatenate([np.empty((labels, 0), np.float32), *arrays], axis=1)
