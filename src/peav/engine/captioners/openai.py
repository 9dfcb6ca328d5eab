"""Captions from a language model that sees frames or hears sound, behind any OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from peav.engine.captioners.base import Captioner
from peav.engine.chat import Chat, Question, audio, image, text
from peav.engine.clip import Answer, Clip, Sample
from peav.engine.endpoint import Endpoint
from peav.engine.prompts import load_prompt
from peav.errors import RecipeError


@dataclass
class OpenAI(Endpoint, Captioner):  # type: ignore[override]  # Endpoint's `batch_size` is meant
    """One request a clip: the prompt, then frames, then sound, as `kind` says.

    Attributes:
        prompt: of those that ship, by name, or the path of a text file; None: the one that ships for `kind`.
        frames: pictures of a clip that are sent, evenly over it, of the 16 that are decoded.
    """

    prompt: str | None = None
    frames: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_endpoint()
        if not 1 <= self.frames <= 16:
            raise RecipeError(f"captioner {self.name}: frames must be 1 to 16, not {self.frames}")
        if self.prompt is None and self.kind == "audio_video":
            raise RecipeError(f"captioner {self.name}: no prompt ships for audio_video; give the path of one")
        self._prompt = load_prompt(self.prompt or f"caption_{self.kind}_v1")

    @property
    def model_name(self) -> str:
        """The model, as the endpoint calls it."""
        return self.model

    @property
    def prompt_name(self) -> str:
        """`NAME@HASH` of the prompt."""
        return self._prompt.label

    def identity(self) -> Mapping[str, Any]:
        """The options, with the prompt's hash in place of its path, and the frames only where they are sent."""
        frames = self.frames if "video" in self.needs else 0
        return {**super().identity(), "prompt": self.prompt_name, "frames": frames}

    def prompt_parts(self, clip: Clip) -> tuple[str, str]:  # noqa: ARG002
        """The prompt; frames and sound are no words."""
        return self._prompt.text, ""

    def setup(self) -> None:
        """Read the key."""
        self._chat = Chat(self)

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer | Exception]]:
        """Answers as they come; an empty caption, unasked, for a clip that lacks a stream."""
        there = [place for place, sample in enumerate(batch) if not self.lacks(sample)]
        yield from ((place, Answer("", attempts=0)) for place in range(len(batch)) if place not in there)
        for place, answer in self._chat.ask_all([self._question(batch[place]) for place in there]):
            yield there[place], answer

    def _question(self, sample: Sample) -> Question:
        media, parts = sample.media, [text(self._prompt.text)]
        assert media is not None
        if "video" in self.needs and media.frames is not None:
            chosen = np.linspace(0, len(media.frames) - 1, min(self.frames, len(media.frames))).round().astype(int)
            parts += [image(media.frames[place]) for place in chosen]
        if "audio" in self.needs and media.waveform is not None:
            parts.append(audio(media.waveform))
        return Question([{"role": "user", "content": parts}])
