"""From logits of labels to the label that fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from peav.types import Modality


@dataclass(frozen=True, eq=False)
class Classification:
    """Some labels and how well they fit one input, best first.

    Attributes:
        index: place of the input in the list that was given.
        source: its path, or its kind and place for anything that has none.
        space: what it was judged by: `audio`, `video` or `audio_video`.
        labels: the n labels.
        probabilities: (n,) float64, a softmax over these labels alone.
        logits: (n,) float64, `Encoder.logits` of the input and each label.
    """

    index: int
    source: str
    space: Modality
    labels: tuple[str, ...]
    probabilities: np.ndarray
    logits: np.ndarray

    @classmethod
    def of(
        cls, index: int, source: str, space: Modality, labels: tuple[str, ...], logits: np.ndarray
    ) -> Classification:
        """Ranks labels by their logits (n,); of equals the first stays first."""
        values = logits.astype(np.float64)
        shares = np.exp(values - values.max())
        shares /= shares.sum()
        order = np.argsort(-shares, kind="stable")
        return cls(index, source, space, tuple(labels[i] for i in order), shares[order], values[order])

    @property
    def label(self) -> str:
        """The one that fits best."""
        return self.labels[0]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `space`, `label`, and the `labels` with `label`, `probability` and `logit`."""
        rows = zip(self.labels, self.probabilities.tolist(), self.logits.tolist(), strict=True)
        ranked = [{"label": label, "probability": share, "logit": logit} for label, share, logit in rows]
        return {"space": self.space, "label": self.label, "labels": ranked}
