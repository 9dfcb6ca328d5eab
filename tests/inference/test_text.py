"""Texts become the same tokens whatever a shared tokenizer is set to, in any thread, and it stays as it was."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_model import random_encoder
from tokenizers import Tokenizer

from peav.checkpoint import load_tokenizer, resolve
from peav.inference.text import check_texts, of_like_length, tokenize

TEXTS = ["", "a dog", "a door is slammed " * 40, "ünïcödé 犬 🐕", "rain"]


def tokenizer() -> Tokenizer:
    """Its own object each time."""
    found = load_tokenizer(resolve("tiny"))
    assert found is not None
    return found


def naive(texts: list[str], max_length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As tokenizers itself cuts and pads."""
    own = tokenizer()
    own.enable_truncation(max_length)
    own.enable_padding(pad_id=own.token_to_id("[PAD]"), pad_token="[PAD]")
    encoded = own.encode_batch(texts)
    return torch.tensor([e.ids for e in encoded]), torch.tensor([e.attention_mask for e in encoded]) == 1


@pytest.mark.slow
@settings(max_examples=60)
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=5), max_length=st.integers(3, 40))
def test_tokens_are_those_of_the_tokenizers_own_cutting_and_padding(texts: list[str], max_length: int) -> None:
    ids, mask = tokenize(tokenizer(), texts, max_length)
    expected, held = naive(texts, max_length)
    assert torch.equal(ids, expected)
    assert torch.equal(mask, held)
    assert ids.dtype == torch.int64
    assert mask.dtype == torch.bool


def test_what_the_tokenizer_is_set_to_neither_counts_nor_changes() -> None:
    plain, changed = tokenizer(), tokenizer()
    changed.enable_truncation(4)
    changed.enable_padding(pad_id=7, length=9)
    state = changed.to_str()
    for max_length in (8, 512):
        one, other = tokenize(plain, TEXTS, max_length), tokenize(changed, TEXTS, max_length)
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    assert changed.to_str() == state
    assert plain.to_str() == tokenizer().to_str()


def test_nothing_gives_nothing_and_padding_is_what_was_asked_for() -> None:
    assert tokenize(tokenizer(), [], 8)[0].shape == (0, 0)
    ids, mask = tokenize(tokenizer(), ["a", "a dog barks"], 8, pad_id=99)
    assert set(ids[~mask].tolist()) == {99}


def test_texts_come_from_any_iterable_and_nothing_else_passes() -> None:
    assert check_texts("a") == ["a"]
    assert check_texts(text for text in ("a", "b")) == ["a", "b"]
    for wrong in (b"a", 5, [b"a"], ["a", None]):
        with pytest.raises(ValueError, match="a text is a string, not"):
            check_texts(wrong)  # type: ignore[arg-type]


def test_halves_of_surrogate_pairs_are_one_clear_error() -> None:
    for wrong in ("a \ud800 dog", "caf\udce9"):
        with pytest.raises(ValueError, match=r"is no text: half of a surrogate pair"):
            tokenize(tokenizer(), ["a", wrong], 8)


def test_eight_threads_on_one_encoder_get_what_one_gets() -> None:
    encoder = random_encoder()
    texts = [f"{'a dog barks ' * (number % 7)}{number}" for number in range(64)]
    expected = [encoder.encode_text(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(encoder.encode_text, texts))
    assert all((one == other).all() for one, other in zip(found, expected, strict=True))


@settings(max_examples=200)
@given(st.lists(st.integers(1, 512), max_size=80), st.integers(1, 40))
def test_batches_of_texts_hold_each_once_and_little_padding(lengths: list[int], batch_size: int) -> None:
    batches = of_like_length(lengths, batch_size)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        own = [lengths[place] for place in batch]
        assert 1 <= len(own) <= batch_size
        assert own == sorted(own)
        assert own[-1] <= max(1.25 * own[0], own[0] + 2)
