"""How well each weak caption fits its clip: the similarity of the two, by a PE-AV model or by CLAP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from peav.engine import fingerprint
from peav.engine.captioners.base import import_extra
from peav.engine.clip import Answer, Clip, Sample
from peav.engine.embedding import Embeddings, PeavStage
from peav.engine.filters import RATE
from peav.engine.stage import OUTSIDE, Stage
from peav.errors import PeavError
from peav.types import Modality

Texts = Mapping[str, tuple[Modality, str]]
"""Of one clip: kind and text by captioner."""


@dataclass
class Scorer(Stage):
    """Writes `score` of a clip's weak captions: the cosine of text and clip in the space of the caption's kind.

    A clip is embedded once for all its captions. A caption of a kind whose streams the clip lacks, or that the model
    does not know, has no score.
    """

    def request(self, clip: Clip) -> Any:
        """Kind and text of the weak captions; None where there are none."""
        return {name: list(about) for name, about in weak_texts(clip).items()} or None

    def apply(self, clip: Clip, value: Any) -> None:
        """Write the scores."""
        for name, score in value.items():
            clip.weak[name] = replace(clip.weak[name], score=score)


def weak_texts(clip: Clip) -> Texts:
    """The weak captions that say something."""
    return {name: (weak.kind, weak.text) for name, weak in clip.weak.items() if weak.text}


def scored(texts: Texts, clip: Embeddings, embedded: Mapping[tuple[Modality, str], np.ndarray]) -> Answer:
    """The similarities by captioner."""
    return Answer(
        {
            name: round(float(clip[kind] @ embedded[kind, text]), 6) if kind in clip else None
            for name, (kind, text) in texts.items()
        }
    )


@dataclass
class Similarity(Scorer, PeavStage):
    """Scores by a PE-AV model: each kind of caption against the embedding of its own kind."""

    name: str = "similarity"

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer | Exception]]:
        """Score the captions of each clip."""
        every = [weak_texts(sample.clip) for sample in batch]
        kinds = tuple(dict.fromkeys(kind for texts in every for kind, _ in texts.values()))
        for place, found in self.embed(batch, kinds):
            if isinstance(found, Exception):
                yield place, found
            else:
                yield place, scored(every[place], found, self._embed_texts(every[place]))

    def _embed_texts(self, texts: Texts) -> dict[tuple[Modality, str], np.ndarray]:
        """Those of one clip together: batches over clips would make a score depend on its neighbors."""
        embedded: dict[tuple[Modality, str], np.ndarray] = {}
        for kind in dict.fromkeys(kind for kind, _ in texts.values()):
            said = [text for other, text in texts.values() if other == kind]
            vectors = self.encoder.encode_text(said, kind, normalize=True)
            embedded |= {(kind, text): vector for text, vector in zip(said, vectors, strict=True)}
        return embedded


@dataclass
class Clap(Scorer):
    """Scores captions of sound by a CLAP model of `transformers`.

    Clips longer than what the model takes (10 s) are embedded in parts, and the parts' mean counts.

    Attributes:
        model: a directory, or a name on the hub.
        revision: on the hub.
        device: to run on.
    """

    name: str = "clap"
    model: str = "laion/clap-htsat-unfused"
    revision: str = "main"
    device: str = field(default="cpu", metadata=OUTSIDE)
    needs: ClassVar[frozenset[str]] = frozenset({"audio"})

    def identity(self) -> dict[str, Any]:
        """With the hash of a directory's files."""
        return {**super().identity(), "files": fingerprint.of_folder(self.model) if Path(self.model).is_dir() else None}

    def setup(self) -> None:
        """Load the model."""
        transformers = import_extra("transformers")
        self.clap = transformers.ClapModel.from_pretrained(self.model, revision=self.revision).eval().to(self.device)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(self.model, revision=self.revision)
        self.extractor = transformers.AutoFeatureExtractor.from_pretrained(self.model, revision=self.revision)
        if self.extractor.sampling_rate != RATE:
            raise PeavError(
                f"{self.name}: {self.model} listens at {self.extractor.sampling_rate} Hz, and clips are at {RATE} Hz; "
                "give a CLAP model of 48 kHz"
            )

    def request(self, clip: Clip) -> Any:
        """Those of sound."""
        return {name: about for name, about in (super().request(clip) or {}).items() if about[0] == "audio"} or None

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer | Exception]]:
        """Score the captions of each clip, one clip at a time, so that none depends on its neighbors."""
        for place, sample in enumerate(batch):
            assert sample.media is not None
            texts = {name: about for name, about in weak_texts(sample.clip).items() if about[0] == "audio"}
            waveform = sample.media.waveform
            clip: Embeddings = {} if waveform is None or not len(waveform) else {"audio": self._embed_sound(waveform)}
            yield place, scored(texts, clip, self._embed_texts([text for _, text in texts.values()]))

    def _embed_sound(self, waveform: np.ndarray) -> np.ndarray:
        """(S,) -> (D,) of unit length."""
        import torch

        # The extractor would take a part of a longer clip at random.
        parts = np.array_split(waveform, -(-len(waveform) // self.extractor.nb_max_samples))
        features = self.extractor(parts, sampling_rate=RATE, return_tensors="pt").to(self.device)
        with torch.inference_mode():
            embedded = _pooled(self.clap.get_audio_features(**features))
        return _unit(embedded.float().cpu().numpy()).mean(0)

    def _embed_texts(self, texts: Sequence[str]) -> dict[tuple[Modality, str], np.ndarray]:
        import torch

        tokens = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self.device)
        with torch.inference_mode():
            embedded = _pooled(self.clap.get_text_features(**tokens))
        vectors = _unit(embedded.float().cpu().numpy())
        return {("audio", text): vector for text, vector in zip(texts, vectors, strict=True)}


def _pooled(output: Any) -> Any:
    """What transformers gives as it is before version 5, and within an output from then on."""
    return output if hasattr(output, "float") else output.pooler_output


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)
