"""From the embeddings of an input's windows to one for the whole input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from peav.inference.batching import Embedded
from peav.types import DecodeFailure

Part = tuple[str, float, Tensor]  # space, seconds, (D,)


@dataclass(frozen=True, eq=False)
class Pooled:
    """One input as a whole; `embedding` is (D,) in `space`."""

    index: int
    source: str
    space: str
    embedding: Tensor


def pool_windows(results: Iterable[Embedded | DecodeFailure]) -> Iterator[Pooled | DecodeFailure]:
    """One result per input, from those of its windows, which follow each other; each window in one space."""
    for index, (*windows, last) in ((index, list(own)) for index, own in groupby(results, lambda result: result.index)):
        if isinstance(last, DecodeFailure):
            yield last
            continue
        parts: list[Part] = []
        for window in (*windows, last):
            assert isinstance(window, Embedded), "nothing follows an DecodeFailure"
            ((space, embedding),) = window.embeddings.items()
            parts.append((space, window.clip.end - window.clip.start, embedding))
        yield Pooled(index, last.clip.source, _space_of(parts), mean_of_windows(parts))


def mean_of_windows(parts: Sequence[Part]) -> Tensor:
    """(D,): the mean over windows, weighted by their lengths; a single window stays bit for bit what it is.

    Where one stream outlasts the other, only the windows that hold both count, or else the space with most seconds.
    """
    # Embeddings of two spaces do not compare: their mean would lie in neither.
    chosen = _space_of(parts)
    lengths, rows = zip(*((length, row) for space, length, row in parts if space == chosen), strict=True)
    return weighted_mean(rows, lengths)


def _space_of(parts: Sequence[Part]) -> str:
    """The space whose windows count."""
    seconds: dict[str, float] = {}
    for space, length, _ in parts:
        seconds[space] = seconds.get(space, 0.0) + length
    return "audio_video" if "audio_video" in seconds else max(seconds, key=lambda space: seconds[space])


def weighted_mean(rows: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """(D,): the weighted mean of rows (D,); a single row stays bit for bit what it is."""
    if len(rows) == 1:
        return rows[0]
    shares = torch.tensor(weights, device=rows[0].device)
    return (shares / shares.sum()) @ torch.stack(list(rows))
