"""Whether a rewritten caption fits its clip as well as the weak captions that it was made of, by a PE-AV model."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from peav.engine.clip import Answer, Clip, Sample
from peav.engine.sources import Sources
from peav.engine.stage import OUTSIDE, Stage
from peav.engine.template import TEMPLATE
from peav.errors import RecipeError
from peav.features.decode import Decoded
from peav.types import Modality

if TYPE_CHECKING:
    from peav.encoder import Encoder

RATE = 48_000
MADE_OF: dict[Modality, tuple[Modality, ...]] = {
    "audio": ("audio", "audio_video"),
    "video": ("video", "audio_video"),
    "audio_video": ("audio", "video", "audio_video"),
}
"""The kinds of weak captions that a caption of each kind may come from."""


@dataclass
class Agreement(Stage):
    """Refuses captions whose similarity to the clip is below that of the best weak caption they may come from.

    Similarity is the cosine in the space of the caption's kind. It leaves `measures["agreement"]`, by kind the
    caption's similarity less the best one. Captions by the template are not asked about: nothing
    could replace them.

    Attributes:
        model: a PE-AV checkpoint: `tiny`, a directory or a hub name.
        margin: how much worse a caption may be. With `tiny` on held-out sounds, .2 refuses 72 % of captions of another
            sound, and 14 % of right ones in other words.
        stored: the name of the measure where another stage has kept the clips' embeddings by the same model, as `pack`
            writes them. No media are decoded then. None: they are computed here.
        dtype: to compute in; None: float32.
        device: None: a GPU where there is one.
    """

    model: str = "tiny"
    margin: float = field(default=0.2, metadata=OUTSIDE)
    stored: str | None = None
    dtype: str | None = None
    device: str | None = field(default=None, metadata=OUTSIDE)

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]  # an instance's, since it goes by `stored`
        """Both streams, or none where the embeddings are stored."""
        return frozenset() if self.stored else frozenset({"audio", "video"})

    @cached_property
    def _model_id(self) -> str:
        from peav.checkpoint.convert import read_model_id
        from peav.checkpoint.hub import resolve

        return read_model_id(resolve(self.model))

    def identity(self) -> Mapping[str, Any]:
        """The options, with the model's id in place of its name."""
        return {**super().identity(), "model": self._model_id}

    def setup(self) -> None:
        """Load the model."""
        import peav

        self._encoder = peav.load(self.model, device=self.device, dtype=self.dtype)

    def request(self, clip: Clip) -> Any:
        """The captions in hand, what they are made of and what is stored; None where they are refused already."""
        if clip.rejected or not clip.captions or TEMPLATE in clip.provenance.values():
            return None
        stored = clip.measures.get(self.stored) if self.stored else None
        return {"captions": dict(clip.captions), "of": Sources.of(clip).as_json(), "stored": stored}

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer | Exception]]:
        """By kind, the similarity of the caption and that of the best weak one."""
        for place, sample in enumerate(batch):
            try:
                yield place, Answer(self._compared(sample))
            except ValueError as error:  # of this clip: nothing stored, or an embedding that is not finite
                yield place, error

    def apply(self, clip: Clip, value: dict[Modality, tuple[float, float]]) -> None:
        """Note the differences, and refuse captions that are worse by more than the margin."""
        clip.measures["agreement"] = {kind: round(own - best, 4) for kind, (own, best) in value.items()}
        for kind, less in clip.measures["agreement"].items():
            if less < -self.margin:
                clip.rejected.append(f"agreement: {kind} caption: fits the clip less than what it was made of")

    def _compared(self, sample: Sample) -> dict[Modality, tuple[float, float]]:
        clip, sources = sample.clip, Sources.of(sample.clip)
        weak = {kind: sources.texts(MADE_OF[kind]) for kind in clip.captions}
        kinds = [kind for kind, texts in weak.items() if texts]
        found = self._stored(clip) if self.stored else embed(self._encoder, sample.media, kinds)
        compared: dict[Modality, tuple[float, float]] = {}
        for kind in kinds:
            if kind in found:  # the texts of one clip together: what else is in the batch changes no digit
                rows = self._encoder.encode_text([clip.captions[kind], *weak[kind]], kind, normalize=True)
                own, *others = (round(float(one), 4) for one in rows @ found[kind])
                compared[kind] = own, max(others)
        return compared

    def _stored(self, clip: Clip) -> dict[Modality, np.ndarray]:
        kept = clip.measures.get(self.stored or "")
        if not isinstance(kept, dict):
            raise RecipeError(f"step {self.name}: no measure {self.stored!r}; leave `stored` out to have it computed")
        return unpack(kept)


def embed(encoder: Encoder, media: Decoded | None, kinds: Sequence[Modality]) -> dict[Modality, np.ndarray]:
    """(D,) float32 of unit length in each of these spaces of which the clip has the streams: its windows' mean."""
    assert media is not None, "decoded, since it is needed"
    streams = {"audio": media.waveform, "video": media.frames}
    there = {name: stream for name, stream in streams.items() if stream is not None}
    windows = encoder.encode_windows(there, kinds, sampling_rate=RATE, batch_size=1)
    found: dict[Modality, np.ndarray] = {}
    for kind in kinds:
        own = [(one.embeddings[kind], one.end - one.start) for one in windows if kind in one.embeddings]
        if own:
            mean = np.average([row for row, _ in own], axis=0, weights=[seconds for _, seconds in own])
            found[kind] = (mean / np.linalg.norm(mean)).astype(np.float32)
    return found


def pack(embeddings: Mapping[Modality, np.ndarray]) -> dict[Modality, str]:
    """Embeddings (D,) of unit length as JSON can hold them: base64 of float16, little-endian."""
    return {kind: base64.b64encode(row.astype("<f2").tobytes()).decode() for kind, row in embeddings.items()}


def unpack(packed: Mapping[Modality, str]) -> dict[Modality, np.ndarray]:
    """(D,) float32 each, of what `pack` wrote."""
    return {kind: np.frombuffer(base64.b64decode(row), "<f2").astype(np.float32) for kind, row in packed.items()}
