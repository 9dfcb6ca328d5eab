"""What detection gives: a probability per label and frame, and the events read from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from peav.types import FRAME, Event


@dataclass(frozen=True, eq=False)
class FrameScores:
    """The frames of one recording.

    Attributes:
        labels: names of the rows.
        probabilities: (labels, T) float32, T = ceil(duration / frame); the last frame may end past the recording.
        duration: of the recording, in seconds.
        frame: seconds from one frame to the next; other systems' may be of another length than ours.
    """

    labels: tuple[str, ...]
    probabilities: np.ndarray
    duration: float
    frame: float = FRAME

    def __post_init__(self) -> None:
        if self.probabilities.ndim != 2 or len(self.probabilities) != len(self.labels):
            raise ValueError(f"{len(self.labels)} labels need a row each, not an array {self.probabilities.shape}")

    @property
    def times(self) -> np.ndarray:
        """(T,) float64: when each frame begins, in seconds."""
        return np.arange(self.probabilities.shape[1]) * self.frame

    @property
    def edges(self) -> np.ndarray:
        """(T + 1,) float64: where frames begin and end; the last one ends with the recording."""
        edges = np.arange(self.probabilities.shape[1] + 1) * self.frame
        return np.minimum(edges, self.duration)

    def row(self, label: str) -> np.ndarray:
        """(T,) probabilities of one label. Raises ValueError for a label that was not scored."""
        if label not in self.labels:
            raise ValueError(f"{label!r} was not scored; there are {', '.join(self.labels)}")
        row: np.ndarray = self.probabilities[self.labels.index(label)]
        return row


def frame_targets(events: Sequence[Event], labels: Sequence[str], edges: np.ndarray) -> np.ndarray:
    """Whether a label sounds in the middle of a frame; events of other labels are left out.

    Args:
        edges: (T + 1,) where frames begin and end, as `FrameScores.edges`.

    Returns:
        (labels, T) bool.
    """
    middles = (edges[:-1] + edges[1:]) / 2
    rows: Mapping[str, int] = {label: row for row, label in enumerate(labels)}
    targets = np.zeros((len(labels), len(middles)), dtype=bool)
    for event in events:
        if event.label in rows:
            targets[rows[event.label]] |= (middles >= event.onset) & (middles < event.offset)
    return targets
