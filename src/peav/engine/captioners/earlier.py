"""What an earlier run wrote of a clip, as one weak caption among others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peav.engine.captioners.base import Captioner
from peav.engine.clip import Answer, Clip, Sample


@dataclass
class Earlier(Captioner):
    """The first synthetic caption of its kind in the clip's row; nothing where there is none."""

    needs: ClassVar[frozenset[str]] = frozenset()  # no media

    @property
    def model_name(self) -> str:
        """There is no model: the row says what wrote its captions."""
        return "the earlier run"

    def request(self, clip: Clip) -> list[str]:
        """The captions of this kind."""
        return list(clip.row.synthetic.get(self.kind, ()))

    def caption(self, sample: Sample) -> Answer:
        """The first of them."""
        return Answer(next(iter(self.request(sample.clip)), ""))
