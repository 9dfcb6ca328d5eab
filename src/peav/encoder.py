"""Encoder: what users call on files, arrays and tensors."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from peav.checkpoint import CheckpointError, load_model, load_tokenizer, resolve, save_pretrained
from peav.forward import Embedded, embed_stream, fingerprint, place, text_states
from peav.inference.sources import Clip, Reader, Space, Streams, Unreadable, as_list
from peav.model import PEAV
from peav.pooling import Part, mean_of_windows
from peav.utils.progress import by_index

SPACES: tuple[Space, ...] = ("audio", "video", "audio_video")
Array = np.ndarray | Tensor
Texts = str | Sequence[str]


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


@dataclass(frozen=True, eq=False)
class WindowEmbedding:
    """One window of one input, embedded.

    Attributes:
        index: place of the input in the list that was given.
        source: its path, or its kind and place for anything that has none.
        start, end: of the window, in seconds from the start of the input.
        duration: of the whole input, in seconds.
        modality: the streams that the window holds: `audio`, `video` or `audio_video`.
        embeddings: space -> (D,) float32.
    """

    index: int
    source: str
    start: float
    end: float
    duration: float
    modality: Space
    embeddings: dict[str, np.ndarray]

    @property
    def embedding(self) -> np.ndarray:
        """(D,) float32 in the space of the window's own modality, or in the only one that was asked for."""
        if self.modality in self.embeddings or len(self.embeddings) != 1:
            return self.embeddings[self.modality]
        return next(iter(self.embeddings.values()))


class Encoder:
    """Embeds audio, video and text into one space; made by `peav.load`.

    Embeddings are not normalised unless `normalize=True`: the models are trained on plain dot products, each pair of
    spaces with its own scale and bias (`logits`). The same input and weights give bit-equal embeddings twice, and an
    input's embedding does not depend on what it is encoded beside (<= 1e-5 relative).

    Inputs are paths, bytes, binary file objects, waveforms ((S,) or (C, S), with `sampling_rate=`), frames
    ((N, H, W, 3) or (N, 3, H, W) uint8) or `{"audio": ..., "video": ...}` of any of these; one, or a list of them.
    One input gives (D,), a list of n gives (n, D), an empty list (0, D), float32, in the order of the inputs. Files
    longer than `window` seconds are cut into windows: `encode*` returns the mean of the windows' embeddings weighted
    by their durations, `encode_windows` keeps them apart.

    Bad inputs raise the `peav.media.MediaError` (a ValueError) that names the input and says what is wrong with it.
    """

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        revision: str | None = None,
    ) -> Encoder:
        """See `peav.load`."""
        target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        directory = resolve(name, revision)
        model = load_model(directory, device=target, dtype=dtype)
        if not isinstance(model, PEAV):
            raise CheckpointError(f"{name}: a PE-A-Frame checkpoint, which finds events: peav.Detector.load")
        return cls(model, load_tokenizer(directory), name)

    def __init__(self, model: PEAV, tokenizer: Tokenizer | None = None, name: str = "model") -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name

    @property
    def output_dim(self) -> int:
        """Width D of every embedding."""
        return int(self.model.config.output_dim)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return place(self.model)[0]

    @property
    def model_id(self) -> str:
        """A fingerprint of architecture and heads: equal ids mean comparable embeddings, whatever the name."""
        return fingerprint(self.model)

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
        return self._pooled(inputs, "audio", text, sampling_rate, **options)

    def encode_video(self, inputs: Any, text: Texts | None = None, **options: Unpack[Options]) -> Array:
        """Embed pictures: (D,) or (n, D) in the `video` space.

        Args:
            inputs: one input or a list; see the class.
            text: what is *heard* (one for all or one per input): embeds video plus text, a query for the `audio` space.
            options: see `Options`.

        Raises:
            MediaError: an input that cannot be read or has no pictures.
        """
        return self._pooled(inputs, "video", text, None, **options)

    def encode_audio_video(self, inputs: Any, *, sampling_rate: int | None = None, **options: Unpack[Options]) -> Array:
        """Embed sound and pictures together: (D,) or (n, D) in the `audio_video` space.

        Raises:
            MediaError: an input that cannot be read or lacks one of the two streams.
        """
        return self._pooled(inputs, "audio_video", None, sampling_rate, **options)

    def encode(self, inputs: Any, *, sampling_rate: int | None = None, **options: Unpack[Options]) -> Array:
        """Embed each input in the space of the streams that it has (sound, pictures or both): (D,) or (n, D).

        Args:
            inputs: one input or a list; see the class.
            sampling_rate: of waveforms, in Hz.
            options: see `Options`.
        """
        return self._pooled(inputs, "any", None, sampling_rate, **options)

    def encode_text(
        self,
        texts: Texts,
        space: Space = "audio_video",
        *,
        batch_size: int = 32,
        normalize: bool = False,
        show_progress: bool = False,
        convert_to_numpy: bool = True,
    ) -> Array:
        """Embed captions to compare with media in `space`: (D,) or (n, D) float32.

        Texts are cut at the model's 512 tokens.

        Args:
            space: the medium that the texts are compared with; each has its own text head.

        Raises:
            ValueError: an unknown space, an input that is not a string, a checkpoint without a tokenizer.
        """
        if space not in SPACES:
            raise ValueError(f"space {space!r} is not one of {', '.join(SPACES)}")
        single = isinstance(texts, str)
        states = self._text_states([texts] if isinstance(texts, str) else texts, batch_size, show_progress)
        with torch.inference_mode():
            rows = self.model.project(states, f"text_{space}").float()
        return _finish(rows, single, normalize, convert_to_numpy)

    def encode_windows(
        self, inputs: Any, spaces: Sequence[Space] | None = None, **options: Any
    ) -> list[WindowEmbedding]:
        """Embed every window of every input and keep them apart, with their times; arguments as in `stream`.

        Raises:
            MediaError: an input that cannot be read.
        """
        found = []
        for result in self.stream(as_list(inputs)[0], spaces, **options):
            if isinstance(result, Unreadable):
                raise result.error
            found.append(result)
        return found

    def stream(
        self,
        inputs: Sequence[Any],
        spaces: Sequence[Space] | None = None,
        *,
        sampling_rate: int | None = None,
        batch_size: int = 8,
        window: float | None = 30.0,
        show_progress: bool = False,
    ) -> Iterator[WindowEmbedding | Unreadable]:
        """Embed any number of inputs in bounded memory: one result per window, as it is ready, in the order of inputs.

        An input that cannot be read gives one `Unreadable` and the others go on; one that breaks half-way gives its
        windows up to there, then the `Unreadable`.

        Args:
            spaces: the spaces to embed into, as far as a window has the streams; None: the one of its own modality.
        """

        def wanted(clip: Clip) -> tuple[str, ...]:
            has = SPACES if clip.modality == "audio_video" else (clip.modality,)
            return (clip.modality,) if spaces is None else tuple(space for space in has if space in spaces)

        results = self._run(self._reader("any", window), inputs, sampling_rate, wanted, None, batch_size)
        for result in by_index(results, len(inputs), show_progress):
            yield result if isinstance(result, Unreadable) else _window(result)

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

    def save_pretrained(self, directory: str | Path) -> None:
        """Write `config.json`, `model.safetensors` and `tokenizer.json`, for `peav.load(directory)`."""
        save_pretrained(self.model, Path(directory), tokenizer=self.tokenizer)

    def push_to_hub(self, repo_id: str, *, private: bool = False, revision: str | None = None) -> str:
        """Upload the model to the Hugging Face hub under the login of `hf auth login`; returns the commit's address."""
        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            commit = api.upload_folder(repo_id=repo_id, folder_path=folder, revision=revision)
        return str(commit.commit_url)

    def _pooled(
        self,
        inputs: Any,
        streams: Streams,
        text: Texts | None,
        sampling_rate: int | None,
        *,
        batch_size: int = 8,
        window: float | None = 30.0,
        normalize: bool = False,
        show_progress: bool = False,
        convert_to_numpy: bool = True,
    ) -> Array:
        """One embedding per input: the mean over its windows, weighted by their durations."""
        items, single = as_list(inputs)
        states = None if text is None else self._joint_states(text, len(items), batch_size)

        def wanted(clip: Clip) -> tuple[str, ...]:
            return (clip.modality if streams == "any" else streams if text is None else f"{streams}_plus_text",)

        found: list[list[Part]] = [[] for _ in items]
        results = self._run(self._reader(streams, window), items, sampling_rate, wanted, states, batch_size)
        for result in by_index(results, len(items), show_progress):
            if isinstance(result, Unreadable):
                raise result.error
            ((space, embedding),) = result.embeddings.items()
            found[result.index].append((space, result.clip.end - result.clip.start, embedding))
        rows = [mean_of_windows(parts) for parts in found]
        stacked = torch.stack(rows) if rows else torch.zeros(0, self.output_dim, device=self.device)
        return _finish(stacked, single, normalize, convert_to_numpy)

    def _run(
        self,
        reader: Reader,
        inputs: Sequence[Any],
        sampling_rate: int | None,
        wanted: Callable[[Clip], tuple[str, ...]],
        states: Tensor | None,
        batch_size: int,
    ) -> Iterator[Embedded | Unreadable]:
        if batch_size < 1:
            raise ValueError(f"batch_size is at least 1, not {batch_size}")
        return embed_stream(self.model, reader.read(inputs, sampling_rate), wanted, states, batch_size)

    def _reader(self, streams: Streams, window: float | None) -> Reader:
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
        if len(text) != inputs:
            raise ValueError(f"{len(text)} texts for {inputs} inputs; give one text, or one per input")
        return self._text_states(text, batch_size)

    def _text_states(self, texts: Sequence[str], batch_size: int, show_progress: bool = False) -> Tensor:
        if self.tokenizer is None:
            raise ValueError(f"{self.name} has no tokenizer.json, so it takes no text; add the one it was trained with")
        return text_states(self.model, self.tokenizer, texts, batch_size, show_progress)


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


def _window(result: Embedded) -> WindowEmbedding:
    clip = result.clip
    embeddings = {space: embedding.cpu().numpy() for space, embedding in result.embeddings.items()}
    return WindowEmbedding(clip.index, clip.source, clip.start, clip.end, clip.duration, clip.modality, embeddings)


def _finish(rows: Tensor, single: bool, normalize: bool, convert_to_numpy: bool) -> Array:
    rows = functional.normalize(rows, dim=-1) if normalize else rows
    rows = rows[0] if single else rows
    return rows.cpu().numpy() if convert_to_numpy else rows.clone()
