"""Labels from the times of spoken words: which word each latent of a clip falls into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from peav.data.manifest import Row
from peav.types import Word

UNLABELED = -1
SILENCE = 0


def spoken_vocabulary(rows: Iterable[Row], size: int = 1000) -> dict[str, int]:
    """The commonest words with times, numbered from 1; ties go by the alphabet."""
    counts = Counter(word.word for row in rows for word in row.words)
    common = sorted(counts, key=lambda word: (-counts[word], word))[:size]
    return {word: number for number, word in enumerate(sorted(common), start=1)}


def word_labels(words: Sequence[Word], frames: int, rate: float, vocabulary: dict[str, int]) -> np.ndarray:
    """(frames,) int64: the word at each frame's middle, `SILENCE` between words.

    Clips without timed words and words outside the vocabulary are `UNLABELED`. `rate` is frames per second.
    """
    return words_at(words, (np.arange(frames) + 0.5) / rate, vocabulary)


def words_at(words: Sequence[Word], times: np.ndarray, vocabulary: dict[str, int]) -> np.ndarray:
    """The same at any times (frames,), in seconds from the clip's start."""
    labels = np.full(len(times), SILENCE if words else UNLABELED, np.int64)
    for word in words:
        labels[(times >= word.start) & (times < word.end)] = vocabulary.get(word.word, UNLABELED)
    return labels
