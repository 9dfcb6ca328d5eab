"""What every captioner shares: which of a clip's streams it describes, and where its caption goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from peav.engine.clip import Answer, Clip, Sample, WeakCaption
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
