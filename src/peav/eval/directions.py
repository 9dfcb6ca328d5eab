"""The directions of retrieval: one table, and which of its rows are measured where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from peav.data.manifest import Row
from peav.model.pairs import Embedding, media, text
from peav.types import Modality
from peav.utils.renamed import renamed


@dataclass(frozen=True)
class Side:
    """What is embedded on one side of a search: sound or pictures, or texts in the text space of that modality."""

    modality: Modality
    text: Literal["caption", "transcript"] | None = None

    @property
    def embedding(self) -> Embedding:
        """How a model computes it; a transcript is an audio caption."""
        return media(self.modality) if self.text is None else text(self.modality, self.modality)

    def texts(self, row: Row) -> list[str]:
        """The row's texts on this side: captions of the modality's own kind, synthetic ones where there are no others,
        or its transcript.
        """
        if self.text == "transcript":
            return [row.transcript] if row.transcript else []
        return list(row.by_people().captions.get(self.modality, ()))


DIRECTIONS: dict[str, tuple[Side, Side]] = {
    "t2av": (Side("audio_video", "caption"), Side("audio_video")),
    "t2a": (Side("audio", "caption"), Side("audio")),
    "t2v": (Side("video", "caption"), Side("video")),
    "av2t": (Side("audio_video"), Side("audio_video", "caption")),
    "a2t": (Side("audio"), Side("audio", "caption")),
    "v2t": (Side("video"), Side("video", "caption")),
    "a2v": (Side("audio"), Side("video")),
    "v2a": (Side("video"), Side("audio")),
    "speech2transcript": (Side("audio"), Side("audio", "transcript")),
    "transcript2speech": (Side("audio", "transcript"), Side("audio")),
    "video2transcript": (Side("video"), Side("video", "transcript")),
}
"""Names are query2target; t is a caption of the kind of the modality that it is compared with."""

CLIPS = ("t2av", "t2a", "t2v", "a2v", "v2a")
"""Measured while a model trains; so is `SPEECH`."""
SPEECH = "speech2transcript"
CAPTIONED = (*CLIPS, SPEECH, "transcript2speech")
"""Measured on the clips of a manifest."""
GRID = (SPEECH, "transcript2speech", "video2transcript", "a2v", "v2a")


if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"WORLD": "peav.eval.directions:CAPTIONED"})
