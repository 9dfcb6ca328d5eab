"""Captions by a captioner of ours: a language model that hears and sees through PE-AV (the paper's stage 2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from peav.captioner import Captioner as Model
from peav.captioner import joined
from peav.engine import fingerprint
from peav.engine.captioners.base import Captioner
from peav.engine.clip import Answer, Sample
from peav.engine.stage import OUTSIDE
from peav.errors import RecipeError
from peav.inference.language_model import PROMPTS, given_to
from peav.types import DecodeFailure


@dataclass
class PlmAv(Captioner):
    """Tells of a clip by PLM-AV; of clips longer than `window`, of each window.

    Attributes:
        model: a directory that `peav train` wrote, or a hub name.
        prompt: `caption`, `events`, `environment`, or any words.
        encoder, language_model: where these are, if not where they were in training.
        window: seconds that are told of at once.
        max_new_tokens: the most that an answer may have.
        dtype: to compute in; None: float32.
        device: None: a GPU where there is one.
        at_once: windows that are told of together.
    """

    model: str = field(kw_only=True)
    prompt: str = "caption"
    encoder: str | None = field(default=None, metadata=OUTSIDE)
    language_model: str | None = field(default=None, metadata=OUTSIDE)
    window: float = 10.0
    max_new_tokens: int = 64
    dtype: str | None = None
    device: str | None = field(default=None, metadata=OUTSIDE)
    at_once: int = field(default=8, metadata=OUTSIDE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window <= 0 or min(self.max_new_tokens, self.at_once) < 1:
            raise RecipeError(f"captioner {self.name}: window is above 0, max_new_tokens and at_once are at least 1")
        if given_to(self.prompt, self.kind) != self.kind:
            raise RecipeError(f"captioner {self.name}: {self.prompt} is asked of sound alone; set kind: audio")

    def identity(self) -> Mapping[str, Any]:
        """The options, with a hash of the model's files, which name encoder and language model by theirs."""
        # The words of a named prompt, which a version of peav may change.
        asked = PROMPTS.get(self.prompt, {}).get(self.kind, self.prompt)
        return {**super().identity(), "model": self._files or self.model, "prompt": asked}

    @property
    def model_name(self) -> str:
        """The hub name, or name of the directory and hash of its files."""
        return f"{Path(self.model).name}@{self._files[: fingerprint.DIGITS]}" if self._files else self.model

    @cached_property
    def _files(self) -> str | None:
        """The hash of a directory's files; None for a name on the hub."""
        return fingerprint.of_folder(self.model) if Path(self.model).is_dir() else None

    def setup(self) -> None:
        """Load the captioner."""
        self._model = Model.load(
            self.model, encoder=self.encoder, language_model=self.language_model, device=self.device, dtype=self.dtype
        )

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer | Exception]]:
        """All clips that have the streams, some windows at once; an empty caption for the others."""
        there = [place for place, sample in enumerate(batch) if not self.lacks(sample)]
        yield from ((place, Answer("", attempts=0)) for place in range(len(batch)) if place not in there)
        told: dict[int, list[str]] = {place: [] for place in there}
        found = self._model.stream(
            [self._given(batch[place]) for place in there],
            self.prompt,
            streams=self.kind,
            sampling_rate=48_000,
            batch_size=self.at_once,
            window=self.window,
            max_new_tokens=self.max_new_tokens,
        )
        failed: dict[int, Exception] = {}
        for one in found:
            if isinstance(one, DecodeFailure):
                failed[there[one.index]] = one.error
            else:
                told[there[one.index]].append(one.text)
        for place in there:
            yield place, failed.get(place) or Answer(joined(told[place]))

    def _given(self, sample: Sample) -> dict[str, Any]:
        assert sample.media is not None
        streams = {"audio": sample.media.waveform, "video": sample.media.frames}
        return {stream: streams[stream] for stream in self.needs}
