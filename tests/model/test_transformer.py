"""The temporal tower's pieces against their naive formulas, and its behavior at the edges."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from golden_data import relative_error
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from peav.model import TransformerConfig
from peav.model.layers import rotate_pairs, rotations, valid_mask
from peav.model.transformer import MaskedGroupNorm, SwiGLU, TemporalTower

CONFIG = TransformerConfig(32, 48, 2, 2, head_dim=16, max_positions=64)


def tower() -> TemporalTower:
    torch.manual_seed(0)
    model = TemporalTower(CONFIG, 12).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.requires_grad_(False)


def test_rotary_pairs_turn_by_position_times_frequency() -> None:
    x = torch.randn(5, 8, dtype=torch.float32)
    turned = rotate_pairs(x, rotations(torch.arange(5), 8, 20000.0))
    for position in range(5):
        for pair in range(4):
            angle = position * 20000.0 ** (-2 * pair / 8)
            a, b = x[position, 2 * pair], x[position, 2 * pair + 1]
            expected = torch.stack(
                [a * math.cos(angle) - b * math.sin(angle), a * math.sin(angle) + b * math.cos(angle)]
            )
            torch.testing.assert_close(turned[position, 2 * pair : 2 * pair + 2], expected)


def test_rotary_positions_stay_in_fp32_when_the_model_is_bf16() -> None:
    rotation = rotations(torch.tensor([9999]), 128, 20000.0)
    x = torch.randn(1, 128)
    exact = rotate_pairs(x.bfloat16().float(), rotation)
    assert rotation.dtype == torch.complex64
    torch.testing.assert_close(rotate_pairs(x.bfloat16(), rotation).float(), exact, rtol=2**-8, atol=1e-6)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 9))
def test_masked_group_norm_equals_group_norm_of_the_valid_part(lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    norm = MaskedGroupNorm(6).requires_grad_(False)
    norm.weight.normal_()
    norm.bias.normal_()
    x = torch.randn(len(lengths), 6, max(lengths)) * 3 + 1
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    out = norm(x, mask[:, None])
    for row, length in enumerate(lengths):
        expected = F.group_norm(x[row : row + 1, :, :length], 1, norm.weight, norm.bias, norm.eps)
        torch.testing.assert_close(out[row : row + 1, :, :length], expected, rtol=1e-5, atol=1e-5)
        assert not out[row, :, length:].any()


def test_swiglu_is_its_formula() -> None:
    mlp, x = SwiGLU(4, 6), torch.randn(3, 4)
    gate, up = mlp.gate_up.weight[:6], mlp.gate_up.weight[6:]
    torch.testing.assert_close(mlp(x), (F.silu(x @ gate.T) * (x @ up.T)) @ mlp.down.weight.T)


@settings(max_examples=20)
@given(lengths=st.lists(st.integers(0, 20), min_size=2, max_size=5), seed=st.integers(0, 9))
def test_a_row_equals_the_clip_alone_even_beside_nan_padding(lengths: list[int], seed: int) -> None:
    model = tower()
    x = torch.randn(len(lengths), max(max(lengths), 1), 12, generator=torch.Generator().manual_seed(seed))
    for row, length in enumerate(lengths):
        x[row, length:] = float("nan")
    out = model(x, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        alone = model(x[row : row + 1, :length])
        assert relative_error(out.pooled[row : row + 1], alone.pooled) <= 1e-5
        if length:
            assert relative_error(out.sequence[row : row + 1, :length], alone.sequence) <= 1e-5


@settings(max_examples=20)
@given(layers=st.integers(1, 3), lengths=st.lists(st.integers(0, 20), min_size=1, max_size=5), seed=st.integers(0, 9))
def test_a_pass_for_the_cls_alone_gives_the_cls_and_the_gradients_of_the_whole_pass(
    layers: int, lengths: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    model = TemporalTower(replace(CONFIG, num_hidden_layers=layers), 12).double()
    x = torch.randn(len(lengths), max(max(lengths), 1), 12, dtype=torch.float64)
    results = []
    for cls_only in (True, False):
        model.zero_grad()
        out = model(x, torch.tensor(lengths), cls_only)
        out.pooled.square().sum().backward()
        gradients = [p.grad for p in model.parameters()]
        results.append((out, gradients))
    (short, short_gradients), (whole, whole_gradients) = results
    assert short.sequence.shape == (len(lengths), 0, 32)
    torch.testing.assert_close(short.pooled, whole.pooled, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(short.middle, whole.middle, rtol=0, atol=0)
    torch.testing.assert_close(short_gradients, whole_gradients, rtol=1e-9, atol=1e-11)


def test_the_cls_counts_among_a_towers_positions_and_too_many_steps_say_to_cut_into_windows() -> None:
    tower()(torch.zeros(1, 63, 12))
    with pytest.raises(ValueError, match="64 steps, but a tower takes at most 63: cut the clip into windows"):
        tower()(torch.zeros(1, 64, 12))


def test_no_mask_is_built_when_nothing_is_padded() -> None:
    cpu = torch.device("cpu")
    assert valid_mask(None, 4, cpu) is None
    assert valid_mask(torch.tensor([4, 4]), 4, cpu) is None
    mask = valid_mask(torch.tensor([4, 2]), 4, cpu)
    assert mask is not None
    assert mask.tolist() == [[True] * 4, [True, True, False, False]]
