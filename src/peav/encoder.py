"""Encoder: what users call on files, arrays and tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from peav.inference.batching import Embedded, embed_stream
from peav.inference.isolation import IsolatedReader
from peav.inference.pooling import Part, mean_of_windows
from peav.inference.pretrained import Pretrained
from peav.inference.sources import Finished, MediaWindow, Reader, Streams, as_list, is_single
from peav.inference.text import check_texts
from peav.model import PEAV
from peav.types import MODALITIES, DecodeFailure, Modality, WindowEmbedding
from peav.utils.progress import by_index
from peav.utils.renamed import renamed

Array = np.ndarray | Tensor
Texts = str | Iterable[str]


class Options(TypedDict, total=False):
    """Keywords shared by `encode`, `encode_audio`, `encode_video` and `encode_audio_video`.

    batch_size: windows per forward pass (8).
    window: seconds per window (30.0); None takes each input whole, up to what the towers take (400 s of sound).
    normalize: scale every embedding to unit length (False).
    show_progress: a progress bar on stderr (False).
    convert_to_numpy: numpy arrays (True); else tensors on the model's device.
    """

    batch_size: int
    window: float | None
    normalize: bool
    show_progress: bool
    convert_to_numpy: bool


class Encoder(Pretrained[PEAV]):
    """Embeds audio, video and text into one space; made by `peav.load`.

    Embeddings are not normalized unless `normalize=True`: the models are trained on plain dot products, each pair of
    spaces with its own scale and bias (`logits`). The same input and weights give bit-equal embeddings twice, and an
    input's embedding does not depend on what it is encoded beside (<= 1e-5 relative).

    Inputs are paths, bytes, binary file objects, waveforms ((S,) or (C, S), with `sampling_rate=`), frames
    ((N, H, W, 3) or (N, 3, H, W) uint8), Hugging Face's audio (`{"array": ..., "sampling_rate": ...}`, or `bytes` or
    `path`), or `{"audio": ..., "video": ...}` of any of these; one, or many in a list or any other iterable. One input
    gives (D,), n of them give (n, D), an empty list (0, D), float32, in the order of the inputs. Files
    longer than `window` seconds are cut into windows: `encode*` returns the mean of the windows' embeddings weighted
    by their durations, `encode_windows` keeps them apart.

    Bad inputs raise the `peav.media.MediaError` (a ValueError) that names the input and says what is wrong with it.
    """

    _kind = PEAV
    _other = "a PE-A-Frame checkpoint, which finds events: peav.Detector.load"

    @property
    def output_dim(self) -> int:
        """Width D of every embedding."""
        return int(self.model.config.output_dim)

    def encode_audio(
        self, inputs: Any, text: Texts | None = None, *, sampling_rate: int | None = None, **options: Unpack[Options]
    ) -> Array:
        """Embed sound: (D,) or (n, D) in the `audio` space.

        Args:
            inputs: one input or a list; see the class.
            text: what is *seen* (one for all or one per input): embeds sound plus text, a query for the `video` space.
            sampling_rate: of waveforms, in Hz.
            options: see `Options`.

        Raises:
            MediaError: an input that cannot be read or has no sound.
        """
        return self._pooled(inputs, "audio", text, sampling_rate, options)

    def encode_video(self, inputs: Any, text: Texts | None = None, **options: Unpack[Options]) -> Array:
        """Embed pictures: (D,) or (n, D) in the `video` space.

        Args:
            inputs: one input or a list; see the class.
            text: what is *heard* (one for all or one per input): embeds video plus text, a query for the `audio` space.
            options: see `Options`.

        Raises:
            MediaError: an input that cannot be read or has no pictures.
        """
        return self._pooled(inputs, "video", text, None, options)

    def encode_audio_video(self, inputs: Any, *, sampling_rate: int | None = None, **options: Unpack[Options]) -> Array:
        """Embed sound and pictures together: (D,) or (n, D) in the `audio_video` space.

        Raises:
            MediaError: an input that cannot be read or lacks one of the two streams.
        """
        return self._pooled(inputs, "audio_video", None, sampling_rate, options)

    def encode(self, inputs: Any, *, sampling_rate: int | None = None, **options: Unpack[Options]) -> Array:
        """Embed each input in the space of the streams that it has (sound, pictures or both): (D,) or (n, D).

        Args:
            inputs: one input or a list; see the class.
            sampling_rate: of waveforms, in Hz.
            options: see `Options`.
        """
        return self._pooled(inputs, "any", None, sampling_rate, options)

    def encode_text(
        self,
        texts: Texts,
        space: Modality = "audio_video",
        *,
        batch_size: int = 32,
        normalize: bool = False,
        show_progress: bool = False,
        convert_to_numpy: bool = True,
    ) -> Array:
        """Embed captions to compare with media in `space`: (D,) or (n, D) float32.

        Texts are cut at the model's 512 tokens.

        Args:
            texts: one, or many in a list or any other iterable.
            space: the medium that the texts are compared with; each has its own text head.

        Raises:
            ValueError: an unknown space, an input that is not a string, a checkpoint without a tokenizer, or an
                embedding that is not finite.
        """
        _check_spaces([space])
        states = self._text_states(check_texts(texts), batch_size, show_progress)
        with torch.inference_mode():
            rows = self.model.project(states, f"text_{space}").float()
        if not rows.isfinite().all():
            raise ValueError(
                f"a text's embedding by {self.name} is not finite; try dtype float32, or check its weights"
            )
        return _finish(rows, isinstance(texts, str), normalize, convert_to_numpy)

    def encode_windows(
        self,
        inputs: Any,
        spaces: Modality | Iterable[Modality] | None = None,
        *,
        sampling_rate: int | None = None,
        batch_size: int = 8,
        window: float | None = 30.0,
        show_progress: bool = False,
    ) -> list[WindowEmbedding]:
        """Embed every window of every input and keep them apart, with their times; arguments as in `stream`.

        Raises:
            MediaError: an input that cannot be read.
        """
        found = []
        for result in self.stream(
            inputs,
            spaces,
            sampling_rate=sampling_rate,
            batch_size=batch_size,
            window=window,
            show_progress=show_progress,
        ):
            if isinstance(result, DecodeFailure):
                raise result.error
            found.append(result)
        return found

    def stream(
        self,
        inputs: Any,
        spaces: Modality | Iterable[Modality] | None = None,
        *,
        sampling_rate: int | None = None,
        batch_size: int = 8,
        window: float | None = 30.0,
        show_progress: bool = False,
        isolate: bool = False,
    ) -> Iterator[WindowEmbedding | DecodeFailure]:
        """Embed any number of inputs in bounded memory: one result per window, as it is ready, in the order of inputs.

        An input that cannot be read gives one `DecodeFailure` and the others go on; one that breaks half-way gives its
        windows up to there, then the `DecodeFailure`. One whose embedding is not finite does so, too.

        Args:
            inputs: one input or many, see the class; they are asked for one by one, as they are needed.
            spaces: the one or more to embed into, as far as a window has the streams; None: that of its own modality.
            isolate: decode paths and bytes in worker processes, so that an input that crashes its decoder, hangs or
                eats memory is an `DecodeFailure` too, and any exception of a decoder as well.

        Raises:
            ValueError: an unknown space, a batch size or window that is not above 0.
        """
        chosen = None if spaces is None else _check_spaces(spaces)

        def wanted(clip: MediaWindow) -> tuple[str, ...]:
            has = MODALITIES if clip.modality == "audio_video" else (clip.modality,)
            return (clip.modality,) if chosen is None else tuple(space for space in has if space in chosen)

        items: Iterable[Any] = [inputs] if is_single(inputs) else inputs
        results = self._run(self.reader("any", window), items, sampling_rate, wanted, None, batch_size, isolate)
        shown = by_index(results, len(items) if isinstance(items, Sized) else None, show_progress)
        return (result if isinstance(result, DecodeFailure) else _window(result) for result in shown)

    def similarity(self, a: Any, b: Any) -> Array:
        """Dot products of embeddings, see `peav.similarity`."""
        return similarity(a, b)

    def logits(self, a: Any, b: Any, pair: str) -> Array:
        """`scale * a . b + bias` of one trained pair, (n, m); its sigmoid is the model's probability of a match.

        Args:
            pair: `a_ac`, `a_v`, `a_avc`, `av_ac`, `av_avc`, `v_ac`, `v_vc`, `v_avc`, `a_vc__v` or `v_ac__a`.

        Raises:
            ValueError: a pair that this checkpoint does not have.
        """
        scale, bias = self.scale_and_bias(pair)
        return similarity(a, b) * scale + bias

    def scale_and_bias(self, pair: str) -> tuple[float, float]:
        """The trained scale and bias of a pair; see `logits`."""
        if pair not in self.model.logit_scale:
            raise ValueError(f"no pair {pair!r} in {self.name}; it has {', '.join(self.model.logit_scale)}")
        scale, bias = (float(table[pair].detach()) for table in (self.model.logit_scale, self.model.logit_bias))
        return scale, bias

    def _pooled(
        self, inputs: Any, streams: Streams, text: Texts | None, sampling_rate: int | None, options: Options
    ) -> Array:
        """One embedding per input: the mean over its windows, weighted by their durations."""
        if unknown := options.keys() - Options.__annotations__.keys():
            name = "encode" if streams == "any" else f"encode_{streams}"
            known = ", ".join(Options.__annotations__)
            raise TypeError(f"{name}() got an unexpected keyword argument {min(unknown)!r}; it takes {known}")
        batch_size, window = options.get("batch_size", 8), options.get("window", 30.0)
        items, single = as_list(inputs)
        states = None if text is None else self._joint_states(text, len(items), batch_size)

        def wanted(clip: MediaWindow) -> tuple[str, ...]:
            return (clip.modality if streams == "any" else streams if text is None else f"{streams}_plus_text",)

        found: list[list[Part]] = [[] for _ in items]
        results = self._run(self.reader(streams, window), items, sampling_rate, wanted, states, batch_size)
        for result in by_index(results, len(items), options.get("show_progress", False)):
            if isinstance(result, DecodeFailure):
                raise result.error
            ((space, embedding),) = result.embeddings.items()
            found[result.index].append((space, result.clip.end - result.clip.start, embedding))
        rows = [mean_of_windows(parts) for parts in found]
        stacked = torch.stack(rows) if rows else torch.zeros(0, self.output_dim, device=self.device)
        return _finish(stacked, single, options.get("normalize", False), options.get("convert_to_numpy", True))

    def _run(
        self,
        reader: Reader,
        inputs: Iterable[Any],
        sampling_rate: int | None,
        wanted: Callable[[MediaWindow], tuple[str, ...]],
        states: Tensor | None,
        batch_size: int,
        isolate: bool = False,
    ) -> Iterator[Embedded | DecodeFailure]:
        if batch_size < 1:
            raise ValueError(f"batch_size is at least 1, not {batch_size}")
        items = IsolatedReader(reader, inputs, sampling_rate) if isolate else reader.read(inputs, sampling_rate)
        results = embed_stream(self.model, items, wanted, states, batch_size)
        return (result for result in results if not isinstance(result, Finished))

    def reader(self, streams: Streams, window: float | None) -> Reader:
        """Cuts and decodes inputs for this model, see `inference.sources`."""
        if window is not None and not window > 0:
            raise ValueError(f"window is a positive number of seconds or None, not {window}")
        config = self.model.config
        return Reader(
            streams=streams,
            window=window,
            rate=config.audio.codec.sampling_rate,
            hop=config.audio.codec.hop_length,
            size=config.video.frame_encoder.image_size,
            num_frames=config.video.num_frames,
            max_positions=config.audio.transformer.max_positions,
        )

    def _joint_states(self, text: Texts, inputs: int, batch_size: int) -> Tensor:
        if isinstance(text, str):
            return self._text_states([text], batch_size).expand(inputs, -1)
        texts = check_texts(text)
        if len(texts) != inputs:
            raise ValueError(f"{len(texts)} texts for {inputs} inputs; give one text, or one per input")
        return self._text_states(texts, batch_size)


def similarity(a: Any, b: Any) -> Array:
    """Dot products of two sets of embeddings, arrays or tensors.

    Args:
        a: (D,) or (n, D). b: (D,) or (m, D).

    Returns:
        (n, m), or without the axis of a side that was a single embedding.

    Raises:
        ValueError: different widths.
    """
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"embeddings of width {a.shape[-1]} and {b.shape[-1]} are from different models")
    product: Array = a @ (b.mT if b.ndim > 1 else b)
    return product


def _check_spaces(spaces: Modality | Iterable[Modality]) -> tuple[Modality, ...]:
    """One space or more. Raises ValueError for none and for unknown ones."""
    chosen: tuple[Modality, ...] = (spaces,) if isinstance(spaces, str) else tuple(spaces)
    for space in chosen:
        if space not in MODALITIES:
            raise ValueError(f"space {space!r} is not one of {', '.join(MODALITIES)}")
    if not chosen:
        raise ValueError(
            f"no spaces: give one or more of {', '.join(MODALITIES)}, or None for that of each window's own"
        )
    return chosen


def _window(result: Embedded) -> WindowEmbedding:
    clip = result.clip
    embeddings = {space: embedding.cpu().numpy() for space, embedding in result.embeddings.items()}
    return WindowEmbedding(clip.index, clip.source, clip.start, clip.end, clip.duration, clip.modality, embeddings)


def _finish(rows: Tensor, single: bool, normalize: bool, convert_to_numpy: bool) -> Array:
    rows = functional.normalize(rows, dim=-1) if normalize else rows
    rows = rows[0] if single else rows
    return rows.cpu().numpy() if convert_to_numpy else rows.clone()


if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"SPACES": "peav.types:MODALITIES", "Space": "peav.types:Modality"})
