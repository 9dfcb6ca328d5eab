"""What every captioner shares: which of a clip's streams it describes, and where its caption goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from peav.engine.clip import Answer, Clip, Sample, WeakCaption
from peav.engine.prompts import load_prompt
from peav.engine.stage import Stage
from peav.errors import RecipeError
from peav.types import MODALITIES, Modality

STREAMS: dict[Modality, frozenset[str]] = {
    "audio": frozenset({"audio"}),
    "video": frozenset({"video"}),
    "audio_video": frozenset({"audio", "video"}),
}


def listed(labels: Sequence[str]) -> str:
    """Labels as a caption: "a, b and c"; empty for none."""
    return " and ".join(filter(None, [", ".join(labels[:-1]), *labels[-1:]]))


def import_extra(module: str) -> Any:
    """A module that comes with `peav[engine]`. Raises RecipeError where it is missing."""
    try:
        return import_module(module)
    except ImportError as error:
        raise RecipeError(f"{module} cannot be imported ({error}): pip install 'peav[engine]'") from error


@dataclass
class Captioner(Stage):
    """Writes one weak caption a clip. A subclass says `model_name` and answers with a caption: `caption` or `__call__`.

    An answer's value is the caption, a string; empty: there is nothing to say, as of a clip without the stream.

    Attributes:
        kind: what the captions describe: the sound, the picture or both. Those streams are decoded.
    """

    kind: Modality = field(default="audio", kw_only=True)  # so that subclasses may have options without a default

    def __post_init__(self) -> None:
        if self.kind not in MODALITIES:
            raise RecipeError(f"captioner {self.name}: kind {self.kind!r}: give one of {', '.join(MODALITIES)}")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]  # an instance's, since it goes by `kind`
        """The streams of `kind`; a captioner that opens the files itself says none."""
        return STREAMS[self.kind]

    @property
    def model_name(self) -> str:
        """Name and version of what writes the captions, without loading it: it stands beside each of them."""
        raise NotImplementedError

    @property
    def prompt_name(self) -> str | None:
        """`NAME@HASH` of the prompt; None where there is none."""
        return None

    def caption(self, sample: Sample) -> Answer:
        """The caption of one clip that has all streams that are needed. What it raises fails this clip alone."""
        raise NotImplementedError

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer | Exception]]:
        """`caption` of each clip, one after the other, and an empty one where it `lacks` a stream."""
        for place, sample in enumerate(batch):
            answer: Answer | Exception
            try:
                answer = Answer("") if self.lacks(sample) else self.caption(sample)
            except Exception as error:  # whatever a model may raise of one clip
                answer = error
            yield place, answer

    def lacks(self, sample: Sample) -> bool:
        """Whether a stream that is needed is not there."""
        there = {"audio": sample.media and sample.media.waveform, "video": sample.media and sample.media.frames}
        return any(there[stream] is None for stream in self.needs)

    def apply(self, clip: Clip, value: str) -> None:
        """Set the weak caption under the captioner's name."""
        clip.weak[self.name] = WeakCaption(value, self.kind, self.model_name, self.prompt_name)


@dataclass
class Prompted(Captioner):
    """What captioners share whose model is told what to do, and shown some of the frames.

    Attributes:
        prompt: of those that ship, by name, or the path of a text file; None: the one that ships for `kind`.
        frames: pictures of a clip that are shown, evenly over it, of the 16 that are decoded.
    """

    prompt: str | None = field(default=None, kw_only=True)
    frames: int = field(default=8, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.frames <= 16:
            raise RecipeError(f"captioner {self.name}: frames must be 1 to 16, not {self.frames}")
        if self.prompt is None and self.kind == "audio_video":
            raise RecipeError(f"captioner {self.name}: no prompt ships for audio_video; give the path of one")
        self._prompt = load_prompt(self.prompt or f"caption_{self.kind}_v1")

    @property
    def prompt_name(self) -> str:
        """`NAME@HASH` of the prompt."""
        return self._prompt.label

    def shown(self, sample: Sample) -> np.ndarray:
        """(N, size, size, 3) uint8, the frames that are shown."""
        assert sample.media is not None
        assert sample.media.frames is not None
        frames = sample.media.frames
        return frames[np.linspace(0, len(frames) - 1, self.frames).round().astype(int)]
