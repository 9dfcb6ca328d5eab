"""Arrays and tensors, unit length, similarity, logits, progress."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import peav
from peav.encoder import Encoder


def test_normalize_gives_unit_length_and_the_same_direction(encoder: Encoder, files: dict[str, Path]) -> None:
    plain, unit = (encoder.encode(list(files.values()), normalize=normalize) for normalize in (False, True))
    assert np.allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    assert np.allclose(unit, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-6)


def test_similarity_is_the_matrix_of_dot_products() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 3, 8))
    assert np.allclose(peav.similarity(a, b), [[x @ y for y in b] for x in a])
    assert np.allclose(peav.similarity(a[0], b), [a[0] @ y for y in b])
    assert np.allclose(peav.similarity(torch.tensor(a), torch.tensor(b)).numpy(), a @ b.T)
    with pytest.raises(ValueError, match="different models"):
        peav.similarity(a, b[:, :4])


def test_logits_use_the_scale_and_bias_of_the_pair(encoder: Encoder) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 3, 8))
    scale, bias = (table["v_ac"].item() for table in (encoder.model.logit_scale, encoder.model.logit_bias))
    assert np.allclose(encoder.logits(a, b, "v_ac"), scale * (a @ b.T) + bias)


def test_progress_goes_to_a_terminal_on_stderr_and_nowhere_else(
    encoder: Encoder, files: dict[str, Path], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder.encode([files["sound"]], show_progress=True)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # by which Rich takes what it writes to for a terminal
    encoder.encode([files["sound"]], show_progress=True)
    captured = capfd.readouterr()
    assert "encoding" in captured.err
    assert captured.out == ""
