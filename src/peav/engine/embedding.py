"""What a PE-AV model says of clips: their embeddings, and whether their sound and picture belong together."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np

from peav.engine.clip import Answer, Clip, Sample
from peav.engine.filters import RATE, Filter
from peav.engine.stage import BAR, OUTSIDE, Stage
from peav.features.decode import Decoded
from peav.types import MODALITIES, DecodeFailure, Modality

if TYPE_CHECKING:
    from peav.encoder import Encoder

Embeddings = dict[Modality, np.ndarray]
"""Of one clip, (D,) float32 of unit length by space, of those that its streams allow."""


@dataclass
class PeavStage(Stage):
    """What stages share that ask a PE-AV model about sound and pictures.

    Attributes:
        model: `tiny`, a directory, or a name on the hub.
        dtype: to load it in; None: that of the checkpoint.
        at_once: clips a forward pass. With more than one a GPU is used better, but an answer then depends on what a
            clip is asked beside, by 1e-5 relative, and a run that was killed may not end in the same bytes.
        device: as of `peav.load`.
    """

    model: str = "tiny"
    dtype: str | None = None
    at_once: int = 1
    device: str | None = field(default=None, metadata=OUTSIDE)
    needs: ClassVar[frozenset[str]] = frozenset({"audio", "video"})

    def identity(self) -> dict[str, Any]:
        """With the hash of the model's weights."""
        return {**super().identity(), "model_id": model_id(self.model)}

    def setup(self) -> None:
        """Load the model, once for all stages of a process that ask it."""
        self.encoder = load_encoder(self.model, self.device, self.dtype)

    def embed(
        self, batch: Sequence[Sample], spaces: Sequence[Modality] = MODALITIES
    ) -> Iterable[tuple[int, Embeddings | Exception]]:
        """Each clip's embeddings by its place, or why it has none, as they are made.

        Those that another stage had from the model are known while the clip's media are in memory.
        """
        how = self.encoder, self.at_once
        known = [_KNOWN.setdefault(_media(sample), {}).setdefault(how, {}) for sample in batch]
        todo = [place for place, own in enumerate(known) if not own.keys() >= set(spaces)]
        inputs = [_streams(batch[place]) for place in todo]
        found = self.encoder.stream(
            inputs, spaces, sampling_rate=RATE, window=None, batch_size=self.at_once, normalize=True
        )
        for one in found:
            place = todo[one.index]
            if isinstance(one, DecodeFailure):
                yield place, one.error
            else:
                known[place].update({space: one.embeddings.get(space) for space in spaces})
                yield place, _there(known[place], spaces)
        for place in set(range(len(batch))) - set(todo):
            yield place, _there(known[place], spaces)


_KNOWN: WeakKeyDictionary[Decoded, dict[tuple[Encoder, int], dict[Modality, np.ndarray | None]]] = WeakKeyDictionary()


@cache
def load_encoder(model: str, device: str | None, dtype: str | None) -> Encoder:
    """A PE-AV model, the same one for all stages of a process that ask for it."""
    from peav.encoder import Encoder

    return Encoder.from_pretrained(model, device=device, dtype=dtype)


def _there(known: dict[Modality, np.ndarray | None], spaces: Sequence[Modality]) -> Embeddings:
    return {space: embedding for space in spaces if (embedding := known[space]) is not None}


def _media(sample: Sample) -> Decoded:
    assert sample.media is not None
    return sample.media


def _streams(sample: Sample) -> dict[str, np.ndarray]:
    streams = {"audio": _media(sample).waveform, "video": _media(sample).frames}
    return {name: array for name, array in streams.items() if array is not None}


@cache
def model_id(model: str) -> str:
    """The hash of a checkpoint's weights; a model on the hub is downloaded."""
    from peav.checkpoint import resolve
    from peav.checkpoint.convert import read_model_id

    return read_model_id(resolve(model))


@dataclass
class Embedding(PeavStage):
    """Measures `embedding`, by which `peav.engine.duplicates` finds clips that look and sound alike.

    It is that of the clip's own space: `{"space": ..., "values": base64 of (D,) float16 of unit length}`.
    """

    name: str = "embedding"

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer | Exception]]:
        """Embed each clip with all the streams that it has."""
        for place, found in self.embed(batch):
            if isinstance(found, Exception):
                yield place, found
                continue
            space = max(found, key=MODALITIES.index)
            yield place, Answer({"space": space, "values": to_text(found[space])})

    def apply(self, clip: Clip, value: Any) -> None:
        """Keep the embedding."""
        clip.measures["embedding"] = value


@dataclass
class Mismatch(PeavStage, Filter):
    """Leaves out clips whose sound and picture do not belong together, by the cosine of their two embeddings."""

    name: str = "mismatch"
    min_similarity: float = field(default=0.0, metadata=BAR)

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer | Exception]]:
        """Compare the streams of each clip; one that lacks a stream has no similarity."""
        for place, found in self.embed(batch, ("audio", "video")):
            if isinstance(found, Exception):
                yield place, found
            else:
                both = len(found) == 2
                yield place, Answer(round(float(found["audio"] @ found["video"]), 6) if both else None)

    def reason(self, value: float) -> str | None:
        """Too unlike."""
        low = value < self.min_similarity
        return f"similarity {value:.3f} of sound and picture, below {self.min_similarity:g}" if low else None


def to_text(embedding: np.ndarray) -> str:
    """(D,) -> base64 of float16."""
    return base64.b64encode(embedding.astype("<f2").tobytes()).decode()


def from_text(text: str) -> np.ndarray:
    """(D,) float32 of what `to_text` wrote."""
    return np.frombuffer(base64.b64decode(text), "<f2").astype(np.float32)
