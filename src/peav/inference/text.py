"""From texts to what the text tower reads, and to its states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from peav.model import PEAV, PEAFrame
from peav.utils.progress import bar


def tokenize(
    tokenizer: Tokenizer, texts: Sequence[str], max_length: int, pad_id: int | None = None
) -> tuple[Tensor, Tensor]:
    """Token ids (n, L) int64 and mask (n, L) bool of texts, cut at `max_length` tokens and padded to the longest.

    Depends on its arguments alone, and leaves the tokenizer as it is: whatever truncation and padding that one is set
    to do neither counts nor changes, so that threads may share it and it is saved as it was loaded.

    Args:
        pad_id: what stands after a text's end; None: the tokenizer's `[PAD]`, 0 where it has none.

    Raises:
        ValueError: a text with halves of surrogate pairs, which is no Unicode.
    """
    plain = _plain(tokenizer)
    encodings = [_cut(plain, text, encoding, max_length) for text, encoding in _encoded(plain, texts)]
    fill = (tokenizer.token_to_id("[PAD]") or 0) if pad_id is None else pad_id
    ids = torch.full((len(encodings), max((len(e.ids) for e in encodings), default=0)), fill)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for row, encoding in enumerate(encodings):
        ids[row, : len(encoding.ids)] = torch.tensor(encoding.ids)
        mask[row, : len(encoding.ids)] = True
    return ids, mask


def check_texts(texts: str | Iterable[str]) -> list[str]:
    """One text or many, of any iterable, as a list. Raises ValueError for anything that is not a string."""
    found: list[Any] = [texts] if isinstance(texts, str | bytes) or not isinstance(texts, Iterable) else list(texts)
    for text in found:
        if not isinstance(text, str):
            raise ValueError(f"a text is a string, not {type(text).__name__}")
    return found


@torch.inference_mode()
def text_states(
    model: PEAV | PEAFrame, tokenizer: Tokenizer, texts: Sequence[str], batch_size: int, show_progress: bool = False
) -> Tensor:
    """The text tower's CLS state of each text: (n, D). Raises ValueError for a batch size below 1."""
    if batch_size < 1:
        raise ValueError(f"batch_size is at least 1, not {batch_size}")
    config, weight = model.config.text, next(model.parameters())
    ids, mask = tokenize(tokenizer, texts, config.max_length, config.pad_token_id)
    lengths = mask.sum(1).tolist()
    states = torch.zeros(len(texts), config.hidden_size, device=weight.device, dtype=weight.dtype)
    with bar(show_progress) as progress:
        for rows in progress.track(of_like_length(lengths, batch_size), description="encoding text"):
            longest = lengths[rows[-1]]
            batch = ids[rows, :longest].to(weight.device), mask[rows, :longest].to(weight.device)
            # Each state goes back to its text's place.
            states[torch.tensor(rows, device=weight.device)] = model.text_pooled(*batch)
    return states


def of_like_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Places of texts in batches of at most `batch_size`, shortest first, so that little of a batch is padding: the
    longest text of one has at most a quarter more tokens than the shortest, or two.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        shortest = lengths[batches[-1][0]] if batches else 0
        if batches and len(batches[-1]) < batch_size and lengths[place] <= max(1.25 * shortest, shortest + 2):
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterable[tuple[str, Encoding]]:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{text!a} is no text: half of a surrogate pair; decode it from its bytes again"
            ) from error
    return zip(texts, tokenizer.encode_batch(list(texts)), strict=True)


def _cut(tokenizer: Tokenizer, text: str, encoding: Encoding, max_length: int) -> Encoding:
    """At most `max_length` tokens: those at the text's end go, what stands around it ([CLS], [SEP]) stays."""
    if len(encoding.ids) <= max_length:
        return encoding
    # The tokenizer's own truncation is a setting, which would change under other threads that use it.
    inner = tokenizer.encode(text, add_special_tokens=False)
    inner.truncate(max_length - tokenizer.num_special_tokens_to_add(False))
    return tokenizer.post_process(inner)


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    """One that neither cuts nor pads: the tokenizer itself, or a copy of it."""
    if tokenizer.truncation is None and tokenizer.padding is None:
        return tokenizer
    return _plain_copy(tokenizer)


# Cached, since a copy writes and parses the whole tokenizer as JSON.
@lru_cache(maxsize=4)
def _plain_copy(tokenizer: Tokenizer) -> Tokenizer:
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy
