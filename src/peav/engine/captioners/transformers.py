"""Captions from a model of transformers: audio captioners, and language models that see frames or hear sound."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from peav.engine.captioners.base import Prompted, import_extra
from peav.engine.clip import Answer, Clip, Sample
from peav.engine.stage import OUTSIDE
from peav.errors import RecipeError
from peav.media.resample import as_waveform

BLOCKS, BLOCK = 16, 1 << 16  # of each file, and bytes of one


@dataclass
class Transformers(Prompted):
    """Any model with a chat template (Perception LM, SmolVLM, Qwen2-Audio), or a seq2seq one of sound (Whisper's kind).

    Answers are greedy: the likeliest token at each step. Models without a chat template are told no prompt. Frames are
    shown as a video where the model's processor takes one, as pictures else.

    Attributes:
        model: a directory, or a name on the hub.
        revision: branch, tag or commit on the hub.
        max_new_tokens: the most that an answer may have; it is cut there.
        generate: what else `generate` of the model is given, such as `{language: en}`.
        dtype: of the weights.
        device: None: a GPU where there is one.
        batch: clips that the model is given at once.
    """

    model: str = field(kw_only=True)
    revision: str | None = None
    max_new_tokens: int = 128
    generate: dict[str, Any] = field(default_factory=dict)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str | None = field(default=None, metadata=OUTSIDE)
    batch: int = field(default=8, metadata=OUTSIDE)

    @property
    def model_name(self) -> str:
        """The model with its revision where one is asked for; of a directory, its name and the marks of its files."""
        mark = self.revision or self._files
        return f"{Path(self.model).name if self._files else self.model}{f'@{mark}' if mark else ''}"

    def identity(self) -> Mapping[str, Any]:
        """The options, with what the prompt and the model are in place of where they lie."""
        return {**super().identity(), "prompt": self.prompt_name, "model": self.model_name}

    @cached_property
    def _files(self) -> str | None:
        """Tells the files of a directory from others, wherever they are copied to; None for a name on the hub.

        By their sizes and blocks of each: a whole hash of a large model takes a minute.
        """
        if not (folder := Path(self.model)).is_dir():
            return None
        digest = hashlib.sha256()
        for path in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors"), *folder.glob("*.jinja")]):
            size = path.stat().st_size
            digest.update(f"{path.name} {size}\n".encode())
            with path.open("rb") as file:
                for block in range(BLOCKS):
                    file.seek(max(0, size - BLOCK) * block // (BLOCKS - 1))
                    digest.update(file.read(BLOCK))
        return digest.hexdigest()[:12]

    def request(self, clip: Clip) -> Any:
        """How long the clip is, since models are told the frames' times."""
        return {"seconds": _seconds(clip)} if "video" in self.needs else {}

    def setup(self) -> None:
        """Load the model and its processor."""
        import torch

        transformers = import_extra("transformers")
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._processor = transformers.AutoProcessor.from_pretrained(self.model, revision=self.revision)
            config = transformers.AutoConfig.from_pretrained(self.model, revision=self.revision)
            self._chats = getattr(self._processor, "chat_template", None) is not None
            if not self._chats and self.kind != "audio":
                raise RecipeError(f"captioner {self.name}: {self.model} has no chat template; take one that has")
            kind = transformers.AutoModelForMultimodalLM if self._chats else transformers.AutoModelForSpeechSeq2Seq
            model = kind.from_pretrained(
                self.model, config=config, revision=self.revision, dtype=getattr(torch, self.dtype)
            )
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise RecipeError(f"captioner {self.name}: {self.model} cannot be loaded: {error}") from error
        self._model = model.to(device).eval()
        self._processor.tokenizer.padding_side = "left"  # an answer follows its question without a gap
        self._rate: Any = getattr(getattr(self._processor, "feature_extractor", None), "sampling_rate", None)
        if "audio" in self.needs and self._rate is None:
            raise RecipeError(f"captioner {self.name}: {self.model} takes no sound; give another, or kind: video")

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer | Exception]]:
        """Some clips at once; an empty caption for a clip that lacks a stream."""
        there = [place for place, sample in enumerate(batch) if not self.lacks(sample)]
        yield from ((place, Answer("", attempts=0)) for place in range(len(batch)) if place not in there)
        for at in range(0, len(there), self.batch):
            places = there[at : at + self.batch]
            yield from zip(places, self._answers([batch[place] for place in places]), strict=True)

    def _answers(self, samples: Sequence[Sample]) -> Iterator[Answer | Exception]:
        """The captions of some clips; where that fails, of each by itself, so that it fails alone."""
        try:
            yield from self._captions(samples)
        except Exception as error:  # whatever a model may raise
            if len(samples) == 1:
                yield error
            else:
                for sample in samples:
                    yield from self._answers([sample])

    def _captions(self, samples: Sequence[Sample]) -> list[Answer]:
        import torch

        inputs = self._chat(samples) if self._chats else self._sound(samples)
        inputs = inputs.to(self._model.device, self._model.dtype)  # only what floats changes its dtype
        options = {"max_new_tokens": self.max_new_tokens, "do_sample": False, "num_beams": 1, **self.generate}
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, **options)
        asked = [0] * len(samples)
        if self._chats:
            asked = inputs["attention_mask"].sum(1).tolist()
            tokens = tokens[:, inputs["input_ids"].shape[1] :]
        tokenizer = self._processor.tokenizer
        texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        padding = tokenizer.pad_token_id
        said = [sum(token != padding for token in row) for row in tokens.tolist()]
        return [Answer(text.strip(), *counts) for text, *counts in zip(texts, asked, said, strict=True)]

    def _sound(self, samples: Sequence[Sample]) -> Any:
        return self._processor(self._waveforms(samples), sampling_rate=self._rate, return_tensors="pt")

    def _chat(self, samples: Sequence[Sample]) -> Any:
        """One message a clip: frames, sound, then the prompt."""
        given: dict[str, Any] = {}
        parts: list[dict[str, str]] = []
        if "video" in self.needs:
            frames = [self.shown(sample) for sample in samples]
            if getattr(self._processor, "video_processor", None) is not None:
                parts.append({"type": "video"})
                timed = [_timing(sample.clip, len(shown)) for sample, shown in zip(samples, frames, strict=True)]
                given |= {"videos": frames, "video_metadata": timed, "do_sample_frames": False}
            else:
                parts += [{"type": "image"}] * self.frames
                given["images"] = list(itertools.chain.from_iterable(frames))
        if "audio" in self.needs:
            parts.append({"type": "audio"})
            given |= {"audio": self._waveforms(samples), "sampling_rate": self._rate}
        parts.append({"type": "text", "text": self._prompt.text})
        asked = self._processor.apply_chat_template(
            [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False
        )
        return self._processor(text=[asked] * len(samples), padding=True, return_tensors="pt", **given)

    def _waveforms(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        found = []
        for sample in samples:
            assert sample.media is not None
            assert sample.media.waveform is not None
            found.append(as_waveform(sample.media.waveform, 48_000, self._rate))
        return found


def _seconds(clip: Clip) -> float | None:
    """How long a clip is; None where its row does not say."""
    return None if clip.row.end is None else clip.row.end - (clip.row.start or 0.0)


def _timing(clip: Clip, frames: int) -> dict[str, Any]:
    """When the frames are shown, as transformers has it; a second apart where nobody knows."""
    seconds = _seconds(clip) or float(frames)
    return {
        "total_num_frames": frames,
        "fps": frames / seconds,
        "duration": seconds,
        "frames_indices": list(range(frames)),
    }
