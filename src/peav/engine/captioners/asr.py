"""What is spoken, by Whisper: a transcript is a field of its own, and nothing where nobody speaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from peav.engine import fingerprint
from peav.engine.captioners.base import import_extra
from peav.engine.clip import Answer, Clip, Sample
from peav.engine.stage import OUTSIDE, Stage
from peav.errors import RecipeError

RATE = 16_000


@dataclass
class Asr(Stage):
    """Writes `transcript` where somebody speaks, by faster-whisper.

    Whisper writes something of any sound ("Thank you."): a detector of voices decides first whether it is asked at
    all, then each segment has to clear two bars. benchmarks/asr.py measures both.

    Attributes:
        model: a directory in CTranslate2's form, or a name that faster-whisper knows, such as `large-v3`.
        language: `en`, `de` ...; None: the model decides for each clip.
        vad_filter: leave out what the detector of voices (Silero) takes for no speech.
        max_no_speech: the highest probability, by Whisper itself, that a segment holds no speech.
        min_logprob: the lowest mean log probability of a segment's tokens.
        beam_size: of the search.
        compute_type: of CTranslate2, such as `int8` or `float16`.
        device: `auto`, `cpu` or `cuda`.
        threads: on a CPU.
    """

    model: str
    language: str | None = "en"
    vad_filter: bool = True
    max_no_speech: float = 0.6
    min_logprob: float = -1.0
    beam_size: int = 5
    compute_type: str = "int8"
    device: str = field(default="auto", metadata=OUTSIDE)
    threads: int = field(default=1, metadata=OUTSIDE)

    needs: ClassVar[frozenset[str]] = frozenset({"audio"})

    def identity(self) -> Mapping[str, Any]:
        """The options; a directory is told by the hash of its files."""
        return {**super().identity(), "model": self._model_id}

    @property
    def model_name(self) -> str:
        """The model's name; of a directory with its hash."""
        folder = Path(self.model)
        return f"{folder.name}@{self._model_id[: fingerprint.DIGITS]}" if folder.is_dir() else self.model

    def setup(self) -> None:
        """Load the model. Raises RecipeError where the package or the model is missing."""
        faster_whisper = import_extra("faster_whisper")
        how = {"device": self.device, "compute_type": self.compute_type, "cpu_threads": self.threads}
        try:
            self._whisper = faster_whisper.WhisperModel(self.model, **how)
        except (ValueError, RuntimeError, OSError) as error:  # unknown name, no model in the folder, hub out of reach
            raise RecipeError(f"step {self.name}: model {self.model} cannot be loaded: {error}") from error

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer | Exception]]:
        """What is said in each clip; empty: nothing."""
        for place, sample in enumerate(batch):
            answer: Answer | Exception
            try:
                answer = Answer(self.transcript(self.segments(sample)))
            except Exception as error:  # whatever the model may raise of one clip
                answer = error
            yield place, answer

    def apply(self, clip: Clip, value: str) -> None:
        """Set the clip's transcript and what wrote it, where somebody speaks."""
        if value:
            clip.transcript = value
            clip.transcript_by = self.model_name

    def segments(self, sample: Sample) -> list[Any]:
        """What Whisper writes of a clip, before the bars: faster-whisper's segments."""
        from peav.media import as_waveform

        if sample.media is None or sample.media.waveform is None:
            return []
        # At temperature 0 alone: the others draw tokens at random, and answers have to be the same each time.
        segments, _ = self._whisper.transcribe(
            as_waveform(sample.media.waveform, 48_000, RATE),
            language=self.language,
            vad_filter=self.vad_filter,
            beam_size=self.beam_size,
            temperature=0.0,
            condition_on_previous_text=False,
        )
        return list(segments)

    def transcript(self, segments: Sequence[Any]) -> str:
        """The text of the segments that clear the bars."""
        kept = [one for one in segments if one.no_speech_prob <= self.max_no_speech]
        return " ".join(one.text.strip() for one in kept if one.avg_logprob >= self.min_logprob).strip()

    @cached_property
    def _model_id(self) -> str:
        return fingerprint.of_folder(self.model) if Path(self.model).is_dir() else self.model
