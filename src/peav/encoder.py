"""Encoder: what users call on files, arrays and tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, cast, overload

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from peav.inference.batching import Embedded, embed_inputs, or_raise, own_space, reader_for, spaces_of
from peav.inference.classification import Classification
from peav.inference.labels import LabelInput, label_texts
from peav.inference.options import Options, TensorOptions, TextOptions, check_options
from peav.inference.pooling import Pooled, pool_windows
from peav.inference.pretrained import Pretrained
from peav.inference.sources import MediaWindow, Streams, WindowReader, as_list, is_single
from peav.inference.text import check_texts
from peav.model import PEAV
from peav.types import MODALITIES, DecodeFailure, Modality, WindowEmbedding
from peav.utils.renamed import renamed

TEXT_PAIR: dict[Modality, str] = {"audio": "a_avc", "video": "v_avc", "audio_video": "av_avc"}
"""For each space, the trained pair of its media with captions of all that is heard and seen."""
Array = np.ndarray | Tensor
E = TypeVar("E", np.ndarray, Tensor)
Texts = str | Iterable[str]


def similarity(a: E, b: E) -> E:
    """Dot products of two sets of embeddings, both arrays or both tensors.

    Args:
        a: (D,) or (n, D). b: (D,) or (m, D).

    Returns:
        (n, m), or without the axis of a side that was a single embedding.

    Raises:
        ValueError: different widths.
    """
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"embeddings of width {a.shape[-1]} and {b.shape[-1]} are from different models")
    product: E = a @ (b.mT if b.ndim > 1 else b)
    return product


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
    _other = "a PE-A-Frame checkpoint, which finds events; `peav detect` and peav.Detector.load take it"

    @property
    def output_dim(self) -> int:
        """Width D of every embedding."""
        return int(self.model.config.output_dim)

    @overload
    def encode_audio(self, inputs: Any, text: Texts | None = None, **options: Unpack[Options]) -> np.ndarray: ...
    @overload
    def encode_audio(self, inputs: Any, text: Texts | None = None, **options: Unpack[TensorOptions]) -> Tensor: ...
    def encode_audio(self, inputs: Any, text: Texts | None = None, **options: Any) -> Array:
        """Embed sound: (D,) or (n, D) in the `audio` space.

        Args:
            inputs: one input or a list; see the class.
            text: what is *seen* (one for all or one per input): embeds sound plus text, a query for the `video` space.
            options: see `Options`.

        Raises:
            MediaError: an input that cannot be read or has no sound.
        """
        return self._encode("encode_audio", inputs, "audio", text, options)

    @overload
    def encode_video(self, inputs: Any, text: Texts | None = None, **options: Unpack[Options]) -> np.ndarray: ...
    @overload
    def encode_video(self, inputs: Any, text: Texts | None = None, **options: Unpack[TensorOptions]) -> Tensor: ...
    def encode_video(self, inputs: Any, text: Texts | None = None, **options: Any) -> Array:
        """Embed pictures: (D,) or (n, D) in the `video` space.

        Args:
            inputs: one input or a list; see the class.
            text: what is *heard* (one for all or one per input): embeds video plus text, a query for the `audio` space.
            options: see `Options`.

        Raises:
            MediaError: an input that cannot be read or has no pictures.
        """
        return self._encode("encode_video", inputs, "video", text, options)

    @overload
    def encode_audio_video(self, inputs: Any, **options: Unpack[Options]) -> np.ndarray: ...
    @overload
    def encode_audio_video(self, inputs: Any, **options: Unpack[TensorOptions]) -> Tensor: ...
    def encode_audio_video(self, inputs: Any, **options: Any) -> Array:
        """Embed sound and pictures together: (D,) or (n, D) in the `audio_video` space.

        Raises:
            MediaError: an input that cannot be read or lacks one of the two streams.
        """
        return self._encode("encode_audio_video", inputs, "audio_video", None, options)

    @overload
    def encode(self, inputs: Any, **options: Unpack[Options]) -> np.ndarray: ...
    @overload
    def encode(self, inputs: Any, **options: Unpack[TensorOptions]) -> Tensor: ...
    def encode(self, inputs: Any, **options: Any) -> Array:
        """Embed each input in the space of the streams that it has (sound, pictures or both): (D,) or (n, D).

        Args:
            inputs: one input or a list; see the class.
            options: see `Options`.
        """
        return self._encode("encode", inputs, "any", None, options)

    @overload
    def encode_text(
        self,
        texts: Texts,
        space: Modality = ...,
        *,
        convert_to_numpy: Literal[True] = ...,
        **how: Unpack[TextOptions],
    ) -> np.ndarray: ...
    @overload
    def encode_text(
        self, texts: Texts, space: Modality = ..., *, convert_to_numpy: Literal[False], **how: Unpack[TextOptions]
    ) -> Tensor: ...
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
        self, inputs: Any, spaces: Modality | Iterable[Modality] | None = None, **options: Unpack[Options]
    ) -> list[WindowEmbedding]:
        """Embed every window of every input and keep them apart, with their times; arguments as in `stream`.

        Raises:
            MediaError: an input that cannot be read.
        """
        check_options("encode_windows", options)
        return list(or_raise(self.stream(inputs, spaces, **options)))

    def stream(
        self,
        inputs: Any,
        spaces: Modality | Iterable[Modality] | None = None,
        *,
        isolate: bool = False,
        **options: Unpack[Options],
    ) -> Iterator[WindowEmbedding | DecodeFailure]:
        """Embed any number of inputs in bounded memory: one result per window, as it is ready, in the order of inputs.

        An input that cannot be read gives one `DecodeFailure` and the others go on; one that breaks half-way gives its
        windows up to there, then the `DecodeFailure`. One whose embedding is not finite does so, too.

        Args:
            inputs: one input or many, see the class; they are asked for one by one, as they are needed.
            spaces: the one or more to embed into, as far as a window has the streams; None: that of its own modality.
            isolate: decode paths and bytes in worker processes, so that an input that crashes its decoder, hangs or
                eats memory is a `DecodeFailure` too, and any exception of a decoder as well.
            options: see `Options`; the embeddings of windows are arrays always.

        Raises:
            ValueError: an unknown space, a batch size or window that is not above 0.
        """
        how = check_options("stream", options)
        chosen = None if spaces is None else _check_spaces(spaces)
        normalize = how.pop("normalize")

        def wanted(clip: MediaWindow) -> tuple[str, ...]:
            return (clip.modality,) if chosen is None else tuple(space for space in spaces_of(clip) if space in chosen)

        items: Iterable[Any] = [inputs] if is_single(inputs) else inputs
        results = embed_inputs(self.model, items, "any", wanted, isolate=isolate, **how)
        return (result if isinstance(result, DecodeFailure) else _window(result, normalize) for result in results)

    def classify(
        self, inputs: Any, labels: LabelInput, space: Modality | None = None, **options: Unpack[Options]
    ) -> list[Classification]:
        """Say which of some labels fits each input: a softmax over the model's logits for the labels' texts.

        >>> model.classify("street.mp4", ["dog barking", "siren"])[0].label

        Args:
            inputs: one input or many, see the class.
            labels: what the inputs may be, in words. A mapping gives each label the words that the model reads for it.
            space: judge by sound, pictures or both; None: by what each input has.
            options: see `Options`; logits are of the embeddings as they are, not normalized.

        Returns:
            One per input, in their order.

        Raises:
            LabelError: no labels, an empty one, one twice.
            MediaError: an input that cannot be read or lacks the streams of `space`.
        """
        check_options("classify", options)
        return list(or_raise(self.classify_stream(inputs, labels, space, **options)))

    def classify_stream(
        self,
        inputs: Any,
        labels: LabelInput,
        space: Modality | None = None,
        *,
        isolate: bool = False,
        **options: Unpack[Options],
    ) -> Iterator[Classification | DecodeFailure]:
        """`classify` any number of inputs; one that cannot be read is a `DecodeFailure`. `isolate` as in `stream`."""
        how = check_options("classify_stream", options)
        del how["normalize"]
        words, texts = label_texts(labels), dict[Modality, Tensor]()
        items: Iterable[Any] = [inputs] if is_single(inputs) else inputs
        streams: Streams = "any" if space is None else space

        def judged(result: Pooled | DecodeFailure) -> Classification | DecodeFailure:
            if isinstance(result, DecodeFailure):
                return result
            by = cast(Modality, result.space)
            # The labels are encoded for a space when the first input is judged in it.
            if by not in texts:
                texts[by] = self.encode_text(words.values(), by, convert_to_numpy=False)
            logits = self.logits(result.embedding, texts[by], TEXT_PAIR[by]).cpu().numpy()
            return Classification.of(result.index, result.source, by, tuple(words), logits)

        windows = embed_inputs(self.model, items, streams, own_space(streams), isolate=isolate, **how)
        return (judged(result) for result in pool_windows(windows))

    def similarity(self, a: E, b: E) -> E:
        """Dot products of embeddings, see `peav.similarity`."""
        return similarity(a, b)

    def logits(self, a: E, b: E, pair: str) -> E:
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

    def reader(self, streams: Streams, window: float | None) -> WindowReader:
        """Cuts and decodes inputs for this model, see `inference.sources`."""
        return reader_for(self.model.config, streams, window)

    def _encode(self, method: str, inputs: Any, streams: Streams, text: Texts | None, options: Any) -> Array:
        """One embedding per input."""
        convert_to_numpy = options.pop("convert_to_numpy", True)
        how = check_options(method, options)
        normalize = how.pop("normalize")
        items, single = as_list(inputs)
        states = None if text is None else self._joint_states(text, len(items), how["batch_size"])
        wanted = own_space(streams) if text is None else lambda _: (f"{streams}_plus_text",)
        results = pool_windows(embed_inputs(self.model, items, streams, wanted, states, **how))
        rows = [result.embedding for result in or_raise(results)]
        stacked = torch.stack(rows) if rows else torch.zeros(0, self.output_dim, device=self.device)
        return _finish(stacked, single, normalize, convert_to_numpy)

    def _joint_states(self, text: Texts, inputs: int, batch_size: int) -> Tensor:
        if isinstance(text, str):
            return self._text_states([text], batch_size).expand(inputs, -1)
        texts = check_texts(text)
        if len(texts) != inputs:
            raise ValueError(f"{len(texts)} texts for {inputs} inputs; give one text, or one per input")
        return self._text_states(texts, batch_size)


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


def _window(result: Embedded, normalize: bool) -> WindowEmbedding:
    clip = result.clip
    rows = {s: functional.normalize(row, dim=-1) if normalize else row for s, row in result.embeddings.items()}
    embeddings = {space: row.cpu().numpy() for space, row in rows.items()}
    return WindowEmbedding(clip.index, clip.source, clip.start, clip.end, clip.duration, clip.modality, embeddings)


def _finish(rows: Tensor, single: bool, normalize: bool, convert_to_numpy: bool) -> Array:
    rows = functional.normalize(rows, dim=-1) if normalize else rows
    rows = rows[0] if single else rows
    # Made in inference mode, rows would be refused by autograd; a copy made outside of it is not.
    return rows.cpu().numpy() if convert_to_numpy else rows.clone()


if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"SPACES": "peav.types:MODALITIES", "Space": "peav.types:Modality"})
