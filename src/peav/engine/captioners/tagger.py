"""Captions from a PE-AV model alone: the labels of a vocabulary that fit a clip best, zero-shot."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peav.engine import fingerprint
from peav.engine.captioners.base import Captioner, listed
from peav.engine.clip import Answer, Sample
from peav.engine.embedding import load_encoder, model_id
from peav.engine.stage import OUTSIDE
from peav.errors import RecipeError
from peav.types import DecodeFailure
from peav.utils.checks import shown
from peav.utils.text import lines, read_text, readable

if TYPE_CHECKING:
    import numpy as np

    from peav.inference.pooling import Pooled

RATE = 48_000
SHIPPED = {kind: Path(__file__).with_name(f"{name}.txt") for kind, name in (("audio", "sounds"), ("video", "sights"))}


@dataclass
class Tagger(Captioner):
    """Names the labels that fit a clip best, "a dog barking and rain falling", or nothing where none clears the bar.

    A label's score is its share in a softmax over the whole vocabulary of the model's logits, as in `Encoder.classify`;
    with several templates the logits are their mean.

    Attributes:
        model: a PE-AV checkpoint: `tiny`, a directory or a hub name.
        labels: a list; a mapping that gives each the words that the model reads; or a text file with one a line (LABEL,
            or LABEL, a tab and the words). None: the shipped `sounds.txt`, for pictures `sights.txt`.
        templates: what the model reads for a label, `{}` being its words.
        top: the most labels in a caption.
        min_score: the lowest score of a label in a caption, 0 to 1.
        window: seconds that the model takes at once; a longer clip's embedding is the mean of its windows'.
        dtype: to compute in; None: float32.
        device: None: a GPU where there is one.
        at_once: clips embedded together. Above 1, a score may differ by 1e-5 with what stands beside a clip.
    """

    model: str = "tiny"
    labels: str | Sequence[str] | Mapping[str, str] | None = None
    templates: Sequence[str] = ("{}",)
    top: int = 3
    min_score: float = 0.15
    window: float = 30.0
    dtype: str | None = None
    device: str | None = field(default=None, metadata=OUTSIDE)
    at_once: int = field(default=1, metadata=OUTSIDE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.templates or not all("{}" in template for template in self.templates):
            told = f"captioner {self.name}: templates {shown(self.templates)}"
            raise RecipeError(f"{told}: give a list of one or more, each with {{}}, where the label stands")

    def identity(self) -> Mapping[str, Any]:
        """The options, with the model's id and a hash of the labels in place of their names."""
        return {**super().identity(), "model": self._model_id, "labels": self._words_sha256}

    @property
    def model_name(self) -> str:
        """Name and id of the model."""
        name = Path(self.model).name if Path(self.model).is_dir() else self.model
        return f"{name}@{self._model_id[: fingerprint.DIGITS]}"

    def setup(self) -> None:
        """Load the model and embed the vocabulary."""
        self._encoder = load_encoder(self.model, self.device, self.dtype)
        texts = [template.replace("{}", words) for template in self.templates for words in self._words.values()]
        rows = self._encoder.encode_text(texts, self.kind)  # (templates x labels, D)
        # Logits are linear in a text's embedding, so that their mean over templates is the logit of the mean.
        self._texts = rows.reshape(len(self.templates), len(self._words), -1).mean(0)

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer | Exception]]:
        """A caption each; see the class."""
        places = [place for place, sample in enumerate(batch) if not self.lacks(sample)]
        yield from ((place, Answer("")) for place in range(len(batch)) if place not in places)
        for place, found in zip(places, self._embedded([batch[place] for place in places]), strict=True):
            yield place, found.error if isinstance(found, DecodeFailure) else Answer(self._said(found))

    def _embedded(self, batch: Sequence[Sample]) -> Iterable[Pooled | DecodeFailure]:
        from peav.inference.batching import embed_inputs, own_space
        from peav.inference.pooling import pool_windows

        media = [sample.media for sample in batch if sample.media is not None]
        inputs = [{"audio": one.waveform, "video": one.frames} for one in media]
        windows = embed_inputs(
            self._encoder.model,
            inputs,
            self.kind,
            own_space(self.kind),
            sampling_rate=RATE,
            batch_size=self.at_once,
            window=self.window,
            show_progress=False,
        )
        return pool_windows(windows)

    def _said(self, clip: Pooled) -> str:
        from peav.encoder import TEXT_PAIR
        from peav.inference.classification import Classification

        logits: np.ndarray = self._encoder.logits(clip.embedding.cpu().numpy(), self._texts, TEXT_PAIR[self.kind])
        best = Classification.of(0, clip.source, self.kind, tuple(self._words), logits)
        fit = zip(best.labels[: self.top], best.probabilities, strict=False)
        return listed([readable(label) for label, score in fit if score >= self.min_score])

    @cached_property
    def _model_id(self) -> str:
        return model_id(self.model)

    @cached_property
    def _words_sha256(self) -> str:
        return hashlib.sha256(json.dumps([*self._words.items()]).encode()).hexdigest()

    @cached_property
    def _words(self) -> dict[str, str]:
        """Each label, and the words that the model reads for it."""
        from peav.inference.labels import label_texts

        labels = self.labels or str(SHIPPED["video" if self.kind == "video" else "audio"])
        if not isinstance(labels, str):
            return label_texts(labels)
        rows = [line.partition("\t") for _, line in lines(read_text(labels, RecipeError)) if not line.startswith("#")]
        read = {label.strip(): words.strip() or readable(label) for label, _, words in rows}
        return label_texts(read)
