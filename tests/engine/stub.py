"""Stages that need no model, for the engine's own promises; named in recipes as path/to/stub.py:Class."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from peav.engine.clip import Answer, Clip, Sample, WeakCaption
from peav.engine.score import Scorer
from peav.engine.stage import OUTSIDE, Stage


@dataclass
class Stub(Stage):
    """Says something of each clip, and writes every clip that it is asked about to a log.

    Options: `log`; `slow` seconds a clip; the ids that make it `raise_on`, or that kill its process (`die_on`).
    """

    log: str = field(default="", metadata=OUTSIDE)
    slow: float = field(default=0.0, metadata=OUTSIDE)
    version: int = 1
    raise_on: tuple[str, ...] = field(default=(), metadata=OUTSIDE)
    die_on: tuple[str, ...] = field(default=(), metadata=OUTSIDE)

    def request(self, clip: Clip) -> Any:
        return {"id": clip.id}

    def __call__(self, batch: Sequence[Sample]) -> Iterator[tuple[int, Answer | Exception]]:
        for place, sample in enumerate(batch):
            if sample.clip.id in self.die_on:
                os._exit(9)
            if self.log:
                with open(self.log, "a") as file:
                    file.write(f"{self.name} {sample.clip.id}\n")
            time.sleep(self.slow)
            if sample.clip.id in self.raise_on:
                yield place, RuntimeError(f"cannot do {sample.clip.id}")
            else:
                yield place, Answer(self.said(sample), prompt_tokens=7)

    def said(self, sample: Sample) -> Any:
        return f"{self.name} {self.version} of {sample.clip.id}"

    def apply(self, clip: Clip, value: Any) -> None:
        clip.weak[self.name] = WeakCaption(value, "audio", f"stub {self.version}")


@dataclass
class Listens(Stub):
    """As a captioner that needs the sound."""

    needs: ClassVar[frozenset[str]] = frozenset({"audio"})

    def said(self, sample: Sample) -> Any:
        assert sample.media is not None
        assert sample.media.waveform is not None
        return f"{len(sample.media.waveform)} samples"


@dataclass
class Rewriter(Stub):
    """As a language model: its answer depends on the weak captions."""

    def request(self, clip: Clip) -> Any:
        return {"id": clip.id, "weak": [weak.text for weak in clip.weak.values()]}

    def said(self, sample: Sample) -> Any:
        return json.dumps([weak.text for weak in sample.clip.weak.values()])

    def apply(self, clip: Clip, value: Any) -> None:
        clip.captions["audio"] = value
        clip.provenance["audio"] = "rewriter"


@dataclass
class Scores(Scorer):
    """As a model that finds each caption but the first a little better, and each clip better than the one before."""

    name: str = "scores"

    def __call__(self, batch: Sequence[Sample]) -> Iterator[tuple[int, Answer | Exception]]:
        for place, sample in enumerate(batch):
            number = sum(map(ord, sample.clip.id)) % 97
            yield place, Answer({name: round(number / 97 + i / 50, 3) for i, name in enumerate(sample.clip.weak)})


@dataclass
class Invents(Rewriter):
    """As a language model that is billed, and says of some clips (`invents`) what nobody knows of them."""

    again: bool = False
    prompt: str = "rewrite_v1"
    invents: tuple[str, ...] = ()
    input_price: float = field(default=0.0, metadata=OUTSIDE)
    output_price: float = field(default=0.0, metadata=OUTSIDE)

    def request(self, clip: Clip) -> Any:
        return super().request(clip) if clip.rejected or not self.again else None

    def __call__(self, batch: Sequence[Sample]) -> Iterator[tuple[int, Answer | Exception]]:
        for place, sample in enumerate(batch):
            more = " while a man sings" if sample.clip.id in self.invents else ""
            text = f"{next(iter(sample.clip.weak.values())).text}{more}."
            yield place, Answer(text, prompt_tokens=500, output_tokens=50, attempts=3 if more else 1)

    def apply(self, clip: Clip, value: Any) -> None:
        super().apply(clip, value)
        clip.rejected = []


@dataclass
class Drops(Stub):
    """As a filter, of clips (`ids`)."""

    ids: tuple[str, ...] = ()

    def said(self, sample: Sample) -> Any:
        return sample.clip.id in self.ids

    def apply(self, clip: Clip, value: Any) -> None:
        clip.measures[self.name] = float(value)
        clip.filtered = f"{self.name}: 1 is too much" if value else None
