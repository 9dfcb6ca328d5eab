"""The pairs that PE-AV is trained on (arXiv 2512.19687; ablated in its Table 9): one more is one line of this table.

Captions come in three kinds: audio (AC), visual (VC) and audio-visual (AVC). A caption is projected by the text head
of the *modality* it is paired with: A-AVC puts the audio-visual caption through `text_audio`. Pre-training uses eight
pairs, fine-tuning adds two whose query joins one modality with a caption of the other: (A + VC) -> V, (V + AC) -> A.
"""

from __future__ import annotations

from dataclasses import dataclass

from peav.types import Modality


@dataclass(frozen=True)
class Embedding:
    """How one side of a pair is computed: a projection head and what it is fed.

    `head` names a head of the model. A media embedding has a `modality` alone, a text embedding a `caption` kind alone;
    a joint one has both, the head then takes the two pooled states, media first.
    """

    head: str
    modality: Modality | None = None
    caption: Modality | None = None


@dataclass(frozen=True)
class Pair:
    """One objective: row b of `query` belongs to row b of `target`. `name` keys the pair's scale and bias."""

    name: str
    query: Embedding
    target: Embedding


def media(modality: Modality) -> Embedding:
    """The embedding of sound, pictures or both."""
    return Embedding(modality, modality=modality)


def text(modality: Modality, caption: Modality) -> Embedding:
    """A caption of the kind `caption` in the text space of `modality`."""
    return Embedding(f"text_{modality}", caption=caption)


def joint(modality: Modality, caption: Modality) -> Embedding:
    """Sound or pictures together with a caption of the kind `caption`, as one query."""
    return Embedding(f"{modality}_plus_text", modality=modality, caption=caption)


PRETRAIN: tuple[Pair, ...] = (
    Pair("a_ac", media("audio"), text("audio", "audio")),
    Pair("a_v", media("audio"), media("video")),
    Pair("a_avc", media("audio"), text("audio", "audio_video")),
    Pair("av_ac", media("audio_video"), text("audio_video", "audio")),
    Pair("av_avc", media("audio_video"), text("audio_video", "audio_video")),
    Pair("v_ac", media("video"), text("video", "audio")),
    Pair("v_vc", media("video"), text("video", "video")),
    Pair("v_avc", media("video"), text("video", "audio_video")),
)
FINETUNE: tuple[Pair, ...] = (
    *PRETRAIN,
    Pair("a_vc__v", joint("audio", "video"), media("video")),
    Pair("v_ac__a", joint("video", "audio"), media("audio")),
)
PAIRS: dict[str, Pair] = {pair.name: pair for pair in FINETUNE}
"""By name. Every model has a scale and a bias for each; those that a checkpoint lacks are as new."""
