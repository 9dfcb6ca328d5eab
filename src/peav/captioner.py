"""Captioner: tells in words what is heard and seen, by a language model behind a PE-AV encoder (PLM-AV)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from peav.checkpoint import CheckpointError, resolve
from peav.checkpoint.bundle import as_dtype
from peav.checkpoint.card import figures_table, licenses_list
from peav.checkpoint.fields import Section
from peav.checkpoint.files import CARD, CONFIG, WEIGHTS, read_json, read_safetensors, write_json, write_safetensors
from peav.checkpoint.identity import same_model, weights_sha256
from peav.checkpoint.key_map import check_names
from peav.checkpoint.native import CAPTIONER, FORMAT, VERSION
from peav.encoder import Encoder
from peav.inference.batching import audio_latents, or_raise, pools, reader_for, video_features
from peav.inference.isolation import IsolatedReader
from peav.inference.language_model import STREAMS, LanguageModel, given_to
from peav.inference.sources import Finished, MediaWindow, Streams, WindowReader, is_single, read_ahead
from peav.model import PLM, PLMConfig
from peav.model.config import DEFAULT_NUM_FRAMES
from peav.types import DecodeFailure, Modality
from peav.utils.storage import write_all

WINDOW = 10.0
"""Seconds that are told of at once, as long as the clips of training."""
MAX_NEW_TOKENS = 64


_CARD = """---
library_name: peav
tags: [audio, video, captioning]
---

# {title}

PLM-AV: a language model that hears and sees through a PE-AV encoder, made with peav.

```python
import peav

captioner = peav.Captioner.load("{path}")
print(captioner.caption("clip.mp4"))
```

Encoder: `{encoder}`. Language model: `{language}`. Both are needed beside this file, and are checked when it is loaded.
{rate:.2f} positions for a second of sound, one for {stride} frames; {parameters:.2f} M trained parameters, LoRA of rank
{rank}.
"""


@dataclass(frozen=True)
class WindowCaption:
    """What is said of one window of one input.

    Attributes:
        index: place of the input in the list that was given.
        source: its path, or its kind and place for anything that has none.
        start, end: of the window, in seconds from the start of the input.
        modality: the streams that the window holds.
        text: on one line; it may be empty.
    """

    index: int
    source: str
    start: float
    end: float
    modality: Modality
    text: str


class Captioner:
    """Writes captions; made by `Captioner.load`, or by training (docs/captioning.md).

    Inputs are as of `Encoder`: paths, bytes, file objects, waveforms (with `sampling_rate=`), frames, or `{"audio":
    ..., "video": ...}`. Long ones are told of window by window. Answers are greedy: the likeliest token at each step.
    """

    def __init__(self, model: PLM, encoder: Encoder, language: LanguageModel, name: str = "captioner") -> None:
        self.model, self.encoder, self.language, self.name = model.eval(), encoder, language, name

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str],
        *,
        encoder: str | os.PathLike[str] | None = None,
        language_model: str | os.PathLike[str] | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> Captioner:
        """Load a captioner, and the encoder and the language model that it was trained with.

        Args:
            name: a directory or a hub name.
            encoder, language_model: where these are, if not where they were in training.
            device: where to put all of it; None: the first GPU if there is one, else the CPU.
            dtype: of weights and computation; None: float32.
            revision, cache_dir: of hub names, as in `peav.load`.

        Raises:
            CheckpointError: nothing there, another kind of model, or an encoder or a language model that is not the one
                it was trained with.
        """
        folder = resolve(name, revision, cache_dir=cache_dir)
        saved = _read(folder)
        target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        hears = Encoder.from_pretrained(encoder or saved.encoder.name, device="cpu", cache_dir=cache_dir)
        tells = LanguageModel.load(language_model or saved.language_model.name, cache_dir=cache_dir)
        for part, wanted, found in (("encoder", saved.encoder, hears), ("language_model", saved.language_model, tells)):
            if not same_model(wanted.id, found.model_id):
                raise CheckpointError(
                    f"{os.fspath(name)}: was trained with {wanted.name} ({wanted.id}), and {found.name} "
                    f"({found.model_id}) is another model; give the right one as {part}="
                )
        model = PLM(hears.model, tells.model, saved.config)
        state, own = read_safetensors(folder / WEIGHTS), model.state_dict()
        check_names(set(own), set(state), str(folder / WEIGHTS))
        if odd := next((key for key, value in own.items() if state[key].shape != value.shape), None):
            raise CheckpointError(f"{folder / WEIGHTS}: {odd} has another shape than {CONFIG} asks for: copy them")
        model.load_state_dict(state)
        return cls(model.to(target, as_dtype(dtype)), hears, tells, os.fspath(name))

    def save_pretrained(
        self,
        directory: str | os.PathLike[str],
        *,
        figures: Mapping[str, Mapping[str, float]] | None = None,
        licenses: Mapping[str, int] | None = None,
    ) -> None:
        """Write config.json, model.safetensors and a model card. Encoder and language model are named, not copied.

        Args:
            figures, licenses: of a model that was trained, for the card; as in `checkpoint.card.model_card`.
        """
        folder, state = Path(directory), self.model.state_dict()
        write_safetensors(folder / WEIGHTS, state)
        card = self._card(folder.resolve().name, os.fspath(directory))
        write_all(folder / CARD, card + figures_table(figures or {}) + licenses_list(licenses or {}))
        config = {
            "format": FORMAT,
            "version": VERSION,
            "model": CAPTIONER,
            "weights_sha256": weights_sha256(state),
            "encoder": {"name": self.encoder.name, "id": self.encoder.model_id},
            "language_model": {"name": self.language.name, "id": self.language.model_id},
            "config": asdict(self.model.config),
        }
        write_json(folder / CONFIG, config)

    @overload
    def caption(self, inputs: str | bytes | os.PathLike[str], prompt: str = ..., **options: Any) -> str: ...
    @overload
    def caption(self, inputs: Any, prompt: str = ..., **options: Any) -> Any: ...
    def caption(self, inputs: Any, prompt: str = "caption", **options: Any) -> Any:
        """One text for each input, a str for a single one; those of its windows one after the other.

        Args:
            inputs: one input or many, see the class.
            prompt: `caption`, `events`, `environment`, or any words.
            options: as of `stream`.

        Raises:
            MediaError: an input that cannot be read.
        """
        items = [inputs] if is_single(inputs) else list(inputs)
        windows = list(or_raise(self.stream(items, prompt, **options)))
        texts = [""] * len(items)
        for index, own in groupby(windows, key=lambda window: window.index):
            texts[index] = joined(window.text for window in own)
        return texts[0] if is_single(inputs) else texts

    def stream(
        self,
        inputs: Any,
        prompt: str = "caption",
        *,
        streams: Streams = "any",
        sampling_rate: int | None = None,
        batch_size: int = 8,
        window: float | None = WINDOW,
        max_new_tokens: int = MAX_NEW_TOKENS,
        isolate: bool = False,
    ) -> Iterator[WindowCaption | DecodeFailure]:
        """Captions of every window of every input, in their order; an input that cannot be read is a `DecodeFailure`.

        Args:
            inputs, prompt: as of `caption`. `events` and `environment` are asked of the sound alone, and a window
                without any has an empty text.
            streams: `any`: tell of what each input has; `audio`, `video` or `audio_video`: of these streams alone.
            sampling_rate: of waveforms, in Hz.
            batch_size: windows that are told of at once.
            window: seconds; None takes each input whole.
            max_new_tokens: the most that an answer may have; it is cut there.
            isolate: decode in worker processes, as in `Encoder.stream`.

        Raises:
            ValueError: an empty prompt; a batch size, window or number of tokens that is not above 0; a window that is
                too long for the language model.
        """
        self.check(prompt, window, batch_size, max_new_tokens)
        reader = self._reader(streams, window)
        items: Iterable[Any] = [inputs] if is_single(inputs) else inputs
        read = IsolatedReader(reader, items, sampling_rate) if isolate else reader.read(items, sampling_rate)
        for batch in read_ahead(pools(read, batch_size)):
            clips = [one for one in batch if isinstance(one, MediaWindow)]
            texts = iter(self._answers(clips, prompt, max_new_tokens))
            for one in batch:
                if isinstance(one, MediaWindow):
                    yield WindowCaption(one.index, one.source, one.start, one.end, one.modality, next(texts))
                elif not isinstance(one, Finished):
                    yield one

    def check(
        self, prompt: str, window: float | None = WINDOW, batch_size: int = 8, max_new_tokens: int = MAX_NEW_TOKENS
    ) -> None:
        """Raises ValueError as `stream` does, before anything is read."""
        if not prompt.strip() or min(batch_size, max_new_tokens) < 1:
            raise ValueError("prompt is not empty, batch_size and max_new_tokens are at least 1")
        frames = self._reader("any", window).num_frames
        if window is not None:
            question = self.language.question(prompt, "audio_video").parts
            words = sum(len(part) for part in question if not isinstance(part, str))
            self.model.check_window(window, frames or DEFAULT_NUM_FRAMES, words + max_new_tokens)

    def _reader(self, streams: Streams, window: float | None) -> WindowReader:
        """As many pictures as in training, of a model that would take all."""
        reader = reader_for(self.encoder.model.config, streams, window)
        return replace(reader, num_frames=reader.num_frames or DEFAULT_NUM_FRAMES)

    @torch.inference_mode()
    def _answers(self, clips: Sequence[MediaWindow], prompt: str, max_new_tokens: int) -> list[str]:
        """What is said of some windows, nothing of those that cannot be asked."""
        asked = [given_to(prompt, clip.modality) for clip in clips]
        texts = [""] * len(clips)
        places = [place for place, streams in enumerate(asked) if streams is not None]
        if not places:
            return texts
        given: list[dict[str, Tensor]] = [{} for _ in clips]
        for stream, inputs_of in (("audio", audio_latents), ("video", video_features)):
            having = [place for place in places if stream in STREAMS[asked[place]]]  # type: ignore[index]
            if having:
                inputs = inputs_of(self.encoder.model, [clips[place] for place in having])
                for place, positions in zip(having, self.model.positions(stream, *inputs), strict=True):
                    given[place][stream] = positions
        sequences = [
            self.model.embedded(self.language.question(prompt, asked[place]).filled(given[place]))  # type: ignore[arg-type]
            for place in places
        ]
        tokens = self.model.generate(sequences, self.language.end, max_new_tokens)
        for place, one in zip(places, tokens, strict=True):
            texts[place] = self.language.text(one)
        return texts

    def _card(self, title: str, path: str) -> str:
        config = self.model.config
        return _CARD.format(
            title=title,
            path=path,
            encoder=self.encoder.name,
            language=self.language.name,
            rate=25 / config.audio_stride,
            stride=config.video_stride,
            parameters=sum(one.numel() for one in self.model.parameters()) / 1e6,
            rank=config.rank or "none",
        )


def joined(texts: Iterable[str]) -> str:
    """The captions of a clip's windows as one text, what follows itself once."""
    return "; ".join(text for text, _ in groupby(filter(None, texts)))


@dataclass(frozen=True)
class _Part:
    """A model that a captioner is built on."""

    name: str
    id: str


@dataclass(frozen=True)
class _Saved:
    """What a captioner's config.json says."""

    encoder: _Part
    language_model: _Part
    config: PLMConfig


def _read(folder: Path) -> _Saved:
    """The config of a captioner. Raises CheckpointError: it is none, one of a newer peav, or names a field of it."""
    root = Section(read_json(folder / CONFIG), str(folder / CONFIG))
    if (root.values.get("format"), root.values.get("model")) != (FORMAT, CAPTIONER):
        raise CheckpointError(f"{folder}: no captioner; peav.load and peav.Detector.load take other models")
    if (version := root.values.get("version")) != VERSION:
        raise CheckpointError(f"{folder}: version {version!r:.60}; this peav reads {VERSION}: upgrade peav")
    encoder, language = (root.section(part).read(_Part) for part in ("encoder", "language_model"))
    return _Saved(encoder, language, root.section("config").read(PLMConfig))
