"""Captions from a language model that sees frames or hears sound, behind any OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peav.engine.captioners.base import Prompted
from peav.engine.chat import Chat, Question, audio, image, text
from peav.engine.clip import Answer, Clip, Sample
from peav.engine.endpoint import Endpoint


@dataclass
class OpenAI(Endpoint, Prompted):  # type: ignore[override]  # Endpoint's `batch_size` is meant
    """One request a clip: the prompt, then frames, then sound, as `kind` says."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_endpoint()

    @property
    def model_name(self) -> str:
        """The model, as the endpoint calls it."""
        return self.model

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
            parts += [image(frame) for frame in self.shown(sample)]
        if "audio" in self.needs and media.waveform is not None:
            parts.append(audio(media.waveform))
        return Question([{"role": "user", "content": parts}])
