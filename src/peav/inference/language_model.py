"""Causal language models of transformers: loaded by hub name, directory or GGUF file, and asked about media."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    "events": {"audio": "List the sounds."},
    "environment": {"audio": "Describe the acoustic environment."},
}
"""What a model is asked, by a prompt's name and by what it is given: sound alone where the question is of sound."""
_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"
_MARKS, _PROMPT = {"audio": "[[audio]]", "video": "[[video]]"}, "[[prompt]]"


def given_to(prompt: str, there: Modality) -> Modality | None:
    """The streams that go with a prompt, of a clip that has those of `there`; None: it cannot be asked of that clip."""
    if there in PROMPTS.get(prompt, {there: ""}):
        return there
    return "audio" if "audio" in STREAMS[there] else None


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
    """A causal language model in eval mode, frozen, and its tokenizer; made by `LanguageModel.load`.

    Attributes:
        end: tokens that end an answer, the tokenizer's own first.
        model_id: a hash of all its weights as they were loaded: equal ids mean the same model.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model, self.tokenizer, self.name = model.eval().requires_grad_(False), tokenizer, name
        self._questions: dict[tuple[str, Modality], Question] = {}
        self.model_id = weights_sha256(model.state_dict())[:32]  # now: what trains changes them
        own = model.generation_config.eos_token_id
        listed = [tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])]
        self.end = list(dict.fromkeys(one for one in listed if one is not None))
        if not self.end:
            raise CheckpointError(f"{name}: has no token that ends a text (eos_token); take another language model")
        # Answers are greedy, whatever penalties and samples a model's own settings ask for.
        model.generation_config = type(model.generation_config)()
        for given in MODALITIES:
            self.question("caption", given)  # a chat template that cannot be used is an error now, not at a clip

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> LanguageModel:
        """Load a model in float32.

        Args:
            name: a hub name, also as NAME@REVISION, a directory that transformers reads, or a `.gguf` file.
            revision: branch, tag or commit on the hub.
            cache_dir: where downloads are kept; None: the hub's own cache.

        Raises:
            CheckpointError: transformers is missing, or cannot read what is there, or it is no model that can be used.
        """
        try:
            import transformers
        except ImportError as error:
            raise CheckpointError(f"language models need transformers: pip install 'peav[engine]' ({error})") from error
        path, full = Path(name), os.fspath(name) if revision is None else f"{os.fspath(name)}@{revision}"
        place, _, wanted = (full, "", "") if path.exists() else full.partition("@")
        where: dict[str, Any] = {"pretrained_model_name_or_path": place, "revision": wanted or "main"}
        if path.suffix == ".gguf":
            where |= {"pretrained_model_name_or_path": os.fspath(path.parent), "gguf_file": path.name}
        where |= {"cache_dir": cache_dir, "trust_remote_code": False}
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
            model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise CheckpointError(f"{full}: no language model that transformers can load: {error}") from error
        return cls(model, tokenizer, full)

    def question(self, prompt: str, given: Modality) -> Question:
        """A prompt about media, a name of `PROMPTS` or any words, in the model's own chat format where it has one.

        Made once, since every clip is asked. Raises CheckpointError: a chat template that takes no such message, or
        changes it.
        """
        if (prompt, given) not in self._questions:
            self._questions[prompt, given] = self._question(prompt, given)
        return self._questions[prompt, given]

    def _question(self, prompt: str, given: Modality) -> Question:
        prompt = PROMPTS.get(prompt, {}).get(given, prompt)
        marks = [_MARKS[stream] for stream in STREAMS[given]]
        content = "\n".join([*marks, _PROMPT])
        parts: list[tuple[int, ...] | str] = []
        text = self._framed(content)
        for stream, mark in zip(STREAMS[given], marks, strict=True):
            before, text = self._split(text, mark)
            parts += [self._ids(before), stream]
        before, after = self._split(text, _PROMPT)
        return Question((*parts, self._ids(before) + self._ids(prompt, plain=True) + self._ids(after)))

    def answer(self, text: str, max_tokens: int) -> list[int]:
        """A text as the model would write it, with the token that ends it, or cut at `max_tokens` without."""
        tokens = [*self._ids(text, plain=True), self.end[0]]
        return tokens[:max_tokens]

    def text(self, tokens: Sequence[int]) -> str:
        """What tokens say, on one line, without characters that steer a terminal."""
        said = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return " ".join("".join(one if one.isprintable() else " " for one in said).split())

    def _framed(self, content: str) -> str:
        """A message as the model's chat template has it; a template that tells the date tells always the same.

        With an empty system message where there can be one: what many templates say in its place, of assistants and
        their makers, costs each clip as many tokens as its sound.
        """
        if not self.tokenizer.chat_template:
            return f"{self.tokenizer.bos_token or ''}{content}\n"
        system, user = {"role": "system", "content": ""}, {"role": "user", "content": content}
        try:
            framed = self._from_template([system, user])
        except CheckpointError:
            framed = ""
        return framed if content in framed else self._from_template([user])

    def _from_template(self, chat: list[dict[str, str]]) -> str:
        template = _DATE + self.tokenizer.chat_template
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    chat, chat_template=template, tokenize=False, add_generation_prompt=True
                )
            )
        except Exception as error:  # whatever a template may raise
            raise CheckpointError(f"{self.name}: its chat template takes no single message: {error}") from error

    def _split(self, text: str, mark: str) -> tuple[str, str]:
        before, found, after = text.partition(mark)
        if not found:
            raise CheckpointError(f"{self.name}: its chat template changes messages; take another language model")
        return before, after

    def _ids(self, text: str, plain: bool = False) -> tuple[int, ...]:
        """Token ids; of `plain` text, in which the name of a control token is no such token."""
        return tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=plain)["input_ids"])
