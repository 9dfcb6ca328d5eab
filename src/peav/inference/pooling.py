"""From the embeddings of an input's windows to one for the whole input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Part = tuple[str, float, Tensor]  # space, seconds, (D,)


def mean_of_windows(parts: Sequence[Part]) -> Tensor:
    """(D,): the mean over windows, weighted by their lengths; a single window stays bit for bit what it is.

    Where one stream outlasts the other, only the windows that hold both count, or else the space with most seconds.
    """
    seconds: dict[str, float] = {}
    for space, length, _ in parts:
        seconds[space] = seconds.get(space, 0.0) + length
    chosen = "audio_video" if "audio_video" in seconds else max(seconds, key=lambda space: seconds[space])
    lengths, rows = zip(*((length, row) for space, length, row in parts if space == chosen), strict=True)
    return weighted_mean(rows, lengths)


def weighted_mean(rows: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """(D,): the weighted mean of rows (D,); a single row stays bit for bit what it is."""
    if len(rows) == 1:
        return rows[0]
    shares = torch.tensor(weights, device=rows[0].device)
    return (shares / shares.sum()) @ torch.stack(list(rows))
