"""The text tower equals transformers' ModernBERT up to the last used layer."""

from __future__ import annotations

import pytest
import torch
from golden_data import relative_error
from hypothesis import given, settings
from hypothesis import strategies as st

from peav.checkpoint.common_layout import text
from peav.checkpoint.key_map import read_entries
from peav.model import TextConfig
from peav.model.text import TextEncoder

pytest.importorskip("transformers")
from transformers import ModernBertConfig, ModernBertModel


def pair(layers: int, every: int, window: int, heads: int, seed: int) -> tuple[TextEncoder, ModernBertModel]:
    """One random ModernBERT in both implementations; theirs has a layer more, whose input is what ours returns."""
    torch.manual_seed(seed)
    config = TextConfig(97, 32, 40, layers, heads, every, window, pad_token_id=0, cls_token_id=1, sep_token_id=2)
    theirs = ModernBertModel(
        ModernBertConfig(
            vocab_size=97,
            hidden_size=32,
            intermediate_size=40,
            num_hidden_layers=layers + 1,
            num_attention_heads=heads,
            layer_types=["sliding_attention" if i % every else "full_attention" for i in range(layers + 1)],
            local_attention=window,
            initializer_range=0.3,
            pad_token_id=0,
            bos_token_id=1,
            cls_token_id=1,
            eos_token_id=2,
            sep_token_id=2,
            attn_implementation="eager",
        )
    ).eval()
    foreign = {f"text_model.{name}": tensor for name, tensor in theirs.state_dict().items()}
    state = read_entries(text(layers + 1), foreign, "random")
    ours = TextEncoder(config).eval()
    names = set(ours.state_dict())
    ours.load_state_dict({n: t for name, t in state.items() if (n := name.removeprefix("text.")) in names})
    return ours.requires_grad_(False), theirs


@settings(max_examples=12)
@given(
    layers=st.integers(1, 5),
    every=st.integers(1, 3),
    window=st.sampled_from([4, 10, 128]),
    heads=st.sampled_from([1, 2, 4]),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_hidden_states_equal_modernbert_for_any_sizes_and_padding(
    layers: int, every: int, window: int, heads: int, lengths: list[int], seed: int
) -> None:
    ours, theirs = pair(layers, every, window, heads, seed)
    ids = torch.randint(3, 97, (len(lengths), max(lengths)))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states[layers]
    hidden = ours(ids, mask)
    for row, length in enumerate(lengths):
        assert relative_error(hidden[row, :length], expected[row, :length]) <= 2e-5
    short = ours(ids, mask, cls_only=True)
    assert short.shape == (len(lengths), 1, 32)
    assert relative_error(short, expected[:, :1]) <= 2e-5


@settings(max_examples=15)
@given(lengths=st.lists(st.integers(1, 150), min_size=2, max_size=4), seed=st.integers(0, 9))
def test_a_text_equals_itself_alone_whatever_stands_beside_it(lengths: list[int], seed: int) -> None:
    ours, _ = pair(4, 3, 128, 2, 0)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 97, (len(lengths), max(lengths)), generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    hidden = ours(ids, mask)
    assert hidden.isfinite().all()
    for row, length in enumerate(lengths):
        assert relative_error(hidden[row : row + 1, :length], ours(ids[row : row + 1, :length])) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_masks_of_any_dtype_mean_the_same(dtype: torch.dtype) -> None:
    ours, _ = pair(2, 3, 128, 2, 0)
    ids, mask = torch.randint(3, 97, (2, 6)), torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]])
    assert ours(ids, mask.to(dtype)).equal(ours(ids, mask.bool()))


def test_bf16_text_stays_near_fp32_at_far_positions() -> None:
    # Rotary angles in bf16 would be off by a whole turn at position 500.
    ours, _ = pair(4, 3, 128, 2, 0)
    ids = torch.randint(3, 97, (1, 500))
    exact = ours(ids)[:, -1]
    rounded = ours.bfloat16()(ids)[:, -1].float()
    assert torch.cosine_similarity(exact, rounded).item() > 0.999
