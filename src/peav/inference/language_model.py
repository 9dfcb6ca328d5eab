"""Causal language models of transformers: loaded by hub name, directory or GGUF file, and asked about media."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from peav.checkpoint.identity import weights_sha256
from peav.errors import CheckpointError
from peav.types import MODALITIES, Modality

STREAMS: dict[Modality, tuple[str, ...]] = {"audio": ("audio",), "video": ("video",), "audio_video": ("audio", "video")}
PROMPTS: dict[str, dict[Modality, str]] = {
    "caption": {
        "audio": "Describe what is heard.",
        "video": "Describe what is seen.",
        "audio_video": "Describe what is heard and seen.",
    },
    "events": dict.fromkeys(MODALITIES, "List the sounds."),
    "environment": dict.fromkeys(MODALITIES, "Describe the acoustic environment."),
}
"""What a model is asked, by the name of a prompt and by what it is given."""
_MARKS = {"audio": "[[audio]]", "video": "[[video]]"}


@dataclass(frozen=True)
class Question:
    """What stands before an answer: token ids, and the names of the streams that go between them."""

    parts: tuple[tuple[int, ...] | str, ...]

    def filled(self, given: Mapping[str, Tensor]) -> list[Tensor]:
        """The parts, with (P, W) embeddings in the place of each stream; ids (L,) int64 are on the device of these."""
        device = next(iter(given.values())).device

        def tensor(part: tuple[int, ...] | str) -> Tensor:
            return given[part] if isinstance(part, str) else torch.tensor(part, dtype=torch.int64, device=device)

        return [tensor(part) for part in self.parts]


class LanguageModel:
    """A causal language model in eval mode, frozen, and its tokenizer; made by `LanguageModel.load`."""

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model, self.tokenizer, self.name = model.eval().requires_grad_(False), tokenizer, name

    @classmethod
    def load(cls, name: str | os.PathLike[str], *, revision: str | None = None) -> LanguageModel:
        """Load a model in float32.

        Args:
            name: a hub name, a directory that transformers reads, or a `.gguf` file.
            revision: branch, tag or commit on the hub.

        Raises:
            CheckpointError: transformers is missing, or cannot read what is there.
        """
        try:
            import transformers
        except ImportError as error:
            raise CheckpointError(f"language models need transformers: pip install 'peav[engine]' ({error})") from error
        path = Path(name)
        where = {"pretrained_model_name_or_path": os.fspath(name), "revision": revision or "main"}
        if path.suffix == ".gguf":
            where |= {"pretrained_model_name_or_path": os.fspath(path.parent), "gguf_file": path.name}
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
            model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise CheckpointError(
                f"{os.fspath(name)}: no language model that transformers can load: {error}"
            ) from error
        return cls(model, tokenizer, os.fspath(name))

    @cached_property
    def model_id(self) -> str:
        """A hash of all its weights, before anything is trained in it: equal ids mean the same model."""
        return weights_sha256(self.model.state_dict())[:32]

    @property
    def end(self) -> list[int]:
        """Tokens that end an answer, the tokenizer's own first."""
        own = self.tokenizer.eos_token_id
        others = getattr(self.model.generation_config, "eos_token_id", None)
        listed = others if isinstance(others, list) else [others]
        return list(dict.fromkeys(one for one in [own, *listed] if one is not None))

    def question(self, prompt: str, given: Modality) -> Question:
        """A prompt about media, a name of `PROMPTS` or any words, in the model's own chat format where it has one."""
        prompt = PROMPTS.get(prompt, {}).get(given, prompt)
        marks = [_MARKS[stream] for stream in STREAMS[given]]
        content = "\n".join([*marks, prompt])
        text = f"{content}\n"
        if self.tokenizer.chat_template:
            chat = [{"role": "user", "content": content}]
            text = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        elif self.tokenizer.bos_token:
            text = self.tokenizer.bos_token + text
        parts: list[tuple[int, ...] | str] = []
        for stream, mark in zip(STREAMS[given], marks, strict=True):
            before, text = text.split(mark, 1)
            parts += [self._ids(before), stream]
        return Question((*parts, self._ids(text)))

    def answer(self, text: str, max_tokens: int) -> list[int]:
        """A text as the model would write it, cut at `max_tokens`, with the token that ends it."""
        return [*self._ids(text)[: max_tokens - 1], self.end[0]]

    def text(self, tokens: Sequence[int]) -> str:
        """What tokens say, on one line, without characters that steer a terminal."""
        said = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return " ".join("".join(one if one.isprintable() else " " for one in said).split())

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
