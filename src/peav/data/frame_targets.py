"""Which texts describe which frames of a batch: targets for frame-level training, and what is not known."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from peav.data.manifest import Row
from peav.utils.text import readable

SMALL = {"and", "the", "with", "for", "from", "into", "onto"}
STEM = 4  # letters: "bark", "barks" and "barking" are one word


@dataclass(frozen=True)
class FrameTargets:
    """For B clips, N texts and T frames: `heard` (B, N, T) bool, `known` (B, N, T) bool, `offsets` (N,) float32.

    `offsets` is how much more frequent than the mean text each is, in log-odds; see `label_log_odds`.
    """

    texts: list[str]
    heard: Tensor
    known: Tensor
    offsets: Tensor


class FrameTargetMaker:
    """Makes `FrameTargets` of the timed events of rows.

    Every label in a batch is a text for all its clips. A clip's manifest is complete for the labels that its source
    marks anywhere, so these are negatives where they do not sound. A label of other sources is a negative too, unless
    it shares a word with one of the clip's own labels ("dog" and "a dog barking"): then nothing is known. Nothing is
    known either of labels that share a word with the clip's background, nor of frames past its end.

    Args:
        sources: the training rows of each source.
        rate: frames a second.
    """

    def __init__(self, sources: Sequence[Sequence[Row]], rate: float) -> None:
        self.rate = rate
        self._labels = {_key(row): labels for rows in sources for labels in [_labels(rows)] for row in rows}
        self._priors = label_log_odds([row for rows in sources for row in rows])

    def __call__(
        self, rows: Sequence[Row], part: slice, lengths: Sequence[int], rng: np.random.Generator
    ) -> FrameTargets:
        """Targets of `rows[part]`, whose clips have `lengths` frames, for the texts of all `rows`.

        Of the ways to name a label, itself and the `texts` of its events, one is drawn. Where no row has an event there
        is one text, the empty one, of which nothing is known.
        """
        names = _names(rows) or {"": [""]}
        labels = list(names)
        texts = [options[rng.integers(len(options))] for options in names.values()]
        rows = rows[part]
        heard = torch.zeros(len(rows), len(labels), max(lengths, default=0), dtype=torch.bool)
        known = torch.zeros_like(heard)
        middles = (np.arange(heard.shape[2]) + 0.5) / self.rate  # (T,) seconds
        for row, length, target, mask in zip(rows, lengths, heard, known, strict=True):
            for event in row.events:
                sounds = (middles >= event.onset) & (middles < event.offset)
                target[labels.index(readable(event.label))] |= torch.from_numpy(sounds)
            if labels != [""]:
                mask[:, :length] = torch.tensor(self._sure(row, labels))[:, None]
        offsets = torch.tensor([self._priors.get(label, 0.0) for label in labels])
        return FrameTargets(texts, heard & known, known, offsets)

    def _sure(self, row: Row, labels: Sequence[str]) -> list[bool]:
        """Whether it is known where each label sounds in a clip, and where not."""
        own = _labels([row])
        marked = own | self._labels.get(_key(row), frozenset())
        background = row.extra.get("background")
        unsure = [background] if isinstance(background, str) else []
        return [
            not any(_alike(label, other) for other in unsure)
            and (label in marked or not any(_alike(label, other) for other in own))
            for label in labels
        ]


def label_log_odds(rows: Sequence[Row]) -> dict[str, float]:
    """How much more often than the mean label each sounds, in log-odds of its seconds; the mean label has 0.

    Added to the logits in training alone (logit adjustment, Menon et al. 2021; FLAM, Wu et al. 2025, learns it), it
    keeps rare labels from being taught that they are rare.
    """
    seconds: dict[str, float] = defaultdict(float)
    for row in rows:
        for event in row.events:
            seconds[readable(event.label)] += max(event.offset - event.onset, 0.0)
    logs = {label: math.log(total) for label, total in seconds.items() if total > 0}
    mean = sum(logs.values()) / max(1, len(logs))
    return {label: value - mean for label, value in logs.items()}


def _key(row: Row) -> tuple[object, ...]:
    return row.id, row.audio_path, row.start  # two sources may use the same ids


def _labels(rows: Iterable[Row]) -> frozenset[str]:
    return frozenset(readable(event.label) for row in rows for event in row.events)


def _names(rows: Iterable[Row]) -> dict[str, list[str]]:
    """The different ways to name each label, itself first; labels by the alphabet."""
    texts: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for event in row.events:
            texts[readable(event.label)].update(event.texts)
    return {label: [label, *sorted(texts[label] - {label})] for label in sorted(texts)}


def _alike(one: str, other: str) -> bool:
    """Whether two labels share a word, whatever its ending; small ones such as "and" apart."""
    return bool(_stems(one) & _stems(other))


def _stems(label: str) -> set[str]:
    words = {word for word in label.lower().split() if len(word) > 2}
    return {word[:STEM] for word in words - SMALL}
