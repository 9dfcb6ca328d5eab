"""Timed words become one label a latent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peav.data.manifest import Row
from peav.lab.words import SILENCE, UNLABELED, spoken_vocabulary, words_at
from peav.types import Word

RATE = 25.0


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.sampled_from("abcz"), st.floats(0, 3), st.floats(0.05, 1)), max_size=5), st.integers(0, 90)
)
def test_a_frame_has_the_label_of_the_last_word_around_its_middle(spoken, frames) -> None:
    words = [Word(word, start, start + length) for word, start, length in spoken]
    vocabulary = {"a": 1, "b": 2, "c": 3}
    labels = words_at(words, (np.arange(frames) + 0.5) / RATE, vocabulary)
    assert labels.shape == (frames,)
    for frame, label in enumerate(labels):
        middle = (frame + 0.5) / RATE
        around = [word.word for word in words if word.start <= middle < word.end]
        expected = vocabulary.get(around[-1], UNLABELED) if around else SILENCE if words else UNLABELED
        assert label == expected


def test_the_vocabulary_keeps_the_commonest_words_and_leaves_zero_for_silence() -> None:
    rows = [Row(id=text, words=tuple(Word(word, 0, 1) for word in text.split())) for text in ("b a", "a c", "c a d")]
    assert spoken_vocabulary(rows, size=2) == {"a": 1, "c": 2}
    assert spoken_vocabulary(rows) == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert np.all(words_at((), np.arange(4) / RATE, {}) == UNLABELED)
