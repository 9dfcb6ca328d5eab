"""Spans: what the threshold keeps, and never padding."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from peav.model import Span, extract_spans


def naive_spans(probabilities: list[float], threshold: float) -> list[tuple[int, int]]:
    """Maximal runs above the threshold, found by walking along."""
    runs, start = [], None
    for i, p in enumerate([*probabilities, 0.0]):
        if p > threshold and start is None:
            start = i
        elif p <= threshold and start is not None:
            runs.append((start, i))
            start = None
    return runs


@given(rows=st.integers(1, 3), steps=st.integers(1, 30), threshold=st.floats(0.05, 0.95), seed=st.integers(0, 999))
def test_spans_are_the_maximal_runs_above_the_threshold(rows: int, steps: int, threshold: float, seed: int) -> None:
    logits = torch.randn(rows, steps, generator=torch.Generator().manual_seed(seed)) * 2
    spans = extract_spans(logits, 0.04, threshold)
    for row in range(rows):
        expected = naive_spans(logits[row].sigmoid().tolist(), threshold)
        assert spans[row] == [Span(a * 0.04, b * 0.04) for a, b in expected]


def test_padding_is_never_reported() -> None:
    logits = torch.tensor([[5.0, 5.0, float("-inf"), float("-inf")]])
    assert extract_spans(logits, 0.04) == [[Span(0.0, 0.08)]]


def test_silence_gives_no_span() -> None:
    assert extract_spans(torch.full((2, 5), -9.0), 0.04) == [[], []]
