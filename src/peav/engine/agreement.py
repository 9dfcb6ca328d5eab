"""Whether a rewritten caption fits its clip as well as the weak captions that it was made of, by a PE-AV model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from peav.engine.clip import Answer, Clip, Sample
from peav.engine.embedding import Embeddings, PeavStage, from_text
from peav.engine.sources import Sources
from peav.engine.stage import BAR
from peav.engine.template import TEMPLATE
from peav.errors import RecipeError
from peav.types import Modality

MADE_OF: dict[Modality, tuple[Modality, ...]] = {
    "audio": ("audio", "audio_video"),
    "video": ("video", "audio_video"),
    "audio_video": ("audio", "video", "audio_video"),
}
"""The kinds of weak captions that a caption of each kind may come from."""


@dataclass
class Agreement(PeavStage):
    """Refuses captions whose similarity to the clip is below that of the best weak caption they may come from.

    Similarity is the cosine in the space of the caption's kind. It leaves `measures["agreement"]`, by kind the
    caption's similarity less the best one. Captions by the template are not asked about: nothing could
    replace them.

    Attributes:
        margin: how much worse a caption may be. With `tiny` on held-out sounds, .2 refuses 72 % of captions of another
            sound, and 14 % of right ones in other words.
        stored: the measure that has the clips' embeddings by the same model, `embedding` where that filter was run. No
            media are decoded then, and of each clip the caption of the stored space alone is looked at. None: all are.
    """

    name: str = "agreement"
    margin: float = field(default=0.2, metadata=BAR)
    stored: str | None = None

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]  # an instance's, since it goes by `stored`
        """Both streams, or none where the embeddings are stored."""
        return frozenset() if self.stored else frozenset({"audio", "video"})

    def request(self, clip: Clip) -> Any:
        """The captions in hand, what they are made of and what is stored; None where they are refused already."""
        if clip.rejected or not clip.captions or TEMPLATE in clip.provenance.values():
            return None
        stored = clip.measures.get(self.stored) if self.stored else None
        return {"captions": dict(clip.captions), "of": Sources.of(clip).as_json(), "stored": stored}

    def __call__(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Answer | Exception]]:
        """By kind, the similarity of the caption and that of the best weak one."""
        for place, found in self._kept(batch) if self.stored else self.embed(batch):
            yield place, found if isinstance(found, Exception) else Answer(self._compared(batch[place].clip, found))

    def apply(self, clip: Clip, value: dict[Modality, tuple[float, float]]) -> None:
        """Note the differences, and refuse captions that are worse by more than the margin."""
        clip.measures["agreement"] = {kind: round(own - best, 4) for kind, (own, best) in value.items()}
        for kind, less in clip.measures["agreement"].items():
            if less < -self.margin:
                clip.rejected.append(f"agreement: {kind} caption: fits the clip less than what it was made of")

    def _compared(self, clip: Clip, embeddings: Embeddings) -> dict[Modality, tuple[float, float]]:
        sources, compared = Sources.of(clip), dict[Modality, tuple[float, float]]()
        for kind, caption in clip.captions.items():
            weak = sources.texts(MADE_OF[kind])
            if weak and kind in embeddings:  # texts clip by clip: what else is in the batch changes no digit
                rows = self.encoder.encode_text([caption, *weak], kind, normalize=True)
                own, *others = (round(float(one), 4) for one in rows @ embeddings[kind])
                compared[kind] = own, max(others)
        return compared

    def _kept(self, batch: Sequence[Sample]) -> Iterable[tuple[int, Embeddings | Exception]]:
        for place, sample in enumerate(batch):
            kept = sample.clip.measures.get(self.stored or "")
            if isinstance(kept, dict) and kept.keys() == {"space", "values"}:
                yield place, {kept["space"]: from_text(kept["values"])}
            else:
                missing = (
                    f"step {self.name}: no measure {self.stored!r}; add the filter `embedding` with the same model"
                )
                yield place, RecipeError(f"{missing}, or leave `stored` out")
