"""What is known of a clip before it is rewritten: the weak captions by kind, and what is spoken."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from peav.engine.clip import Clip, WeakCaption
from peav.engine.words import stems, words
from peav.types import MODALITIES, Modality, modalities

NOTHING = "no captioner says anything of it"
"""Why a clip is filtered that has nothing to be rewritten."""


def plain(text: str) -> str:
    """A text on one line that can be written as UTF-8: single spaces, no lone surrogates."""
    return " ".join(text.encode(errors="ignore").decode().split())


def _on_one_line(weak: WeakCaption) -> WeakCaption:
    text = plain(weak.text)
    return weak if text == weak.text else replace(weak, text=text)


@dataclass(frozen=True)
class Sources:
    """Weak captions that say something, by kind and in the recipe's order.

    Attributes:
        weak: by kind, each text on one line.
        transcript: None: nobody speaks.
        kinds: those that can be written: of streams that the row has, and of which something is known. Speech is heard.
    """

    weak: dict[Modality, tuple[WeakCaption, ...]]
    transcript: str | None
    kinds: tuple[Modality, ...]

    @classmethod
    def of(cls, clip: Clip) -> Sources:
        """Those of a clip."""
        said = [_on_one_line(weak) for weak in clip.weak.values() if words(weak.text)]
        weak = {kind: tuple(one for one in said if one.kind == kind) for kind in MODALITIES}
        transcript = plain(clip.transcript or "")
        spoken = transcript if words(transcript) else None
        heard, seen = bool(weak["audio"] or spoken), bool(weak["video"])
        known = {"audio": heard, "video": seen, "audio_video": (heard and seen) or bool(weak["audio_video"])}
        there = modalities(clip.row.audio_path is not None, clip.row.video_path is not None)
        return cls(weak, spoken, tuple(kind for kind in there if known[kind]))

    @cached_property
    def all(self) -> list[str]:
        """All texts that a caption may take words from."""
        return [*self.texts(), self.transcript or ""]

    @cached_property
    def stems(self) -> frozenset[str]:
        """What all of them are about."""
        return stems(self.all)

    def texts(self, kinds: Iterable[Modality] = MODALITIES) -> list[str]:
        """The weak captions of these kinds."""
        return [one.text for kind in kinds for one in self.weak[kind]]

    def as_json(self) -> dict[str, Any]:
        """All that what is written depends on, for a stage's request."""
        weak = {
            kind: [
                [plain(one.text), one.confidence, None if one.score is None else round(one.score, 4)] for one in found
            ]
            for kind, found in self.weak.items()
        }
        return {"kinds": list(self.kinds), "weak": weak, "transcript": self.transcript}
