"""A text encoder is taken over from ModernBERT or from a PE-AV checkpoint, layer for layer, or refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from peav.checkpoint import CheckpointError, load_model, load_text_encoder, load_tokenizer, save_text_encoder
from peav.checkpoint.fields import Section
from peav.checkpoint.transformers_configs import MODERNBERT, read_modernbert
from peav.inference.tokenizer import train_tokenizer
from peav.model import TextConfig, preset
from peav.model.text import TextEncoder

pytest.importorskip("transformers")
from transformers import ModernBertConfig, ModernBertForMaskedLM, ModernBertModel, PreTrainedModel

OURS = TextConfig(
    vocab_size=60,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=4,
    num_attention_heads=2,
    local_attention=8,
    pad_token_id=0,
    cls_token_id=1,
    sep_token_id=2,
)


def modernbert(folder: Path, kind: type[PreTrainedModel] = ModernBertModel, **changes: object) -> PreTrainedModel:
    """A random one of seven layers, saved."""
    torch.manual_seed(0)
    special = {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    sizes = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    config = ModernBertConfig(
        num_hidden_layers=7, local_attention=8, initializer_range=0.3, **(special | sizes | changes)
    )
    model = kind(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", [ModernBertModel, ModernBertForMaskedLM])
def test_modernbert_is_cut_after_the_layers_that_the_model_has(tmp_path: Path, kind: type[PreTrainedModel]) -> None:
    theirs = modernbert(tmp_path, kind)
    ids = torch.randint(3, 60, (2, 30), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(ids, output_hidden_states=True).hidden_states[OURS.num_hidden_layers]
        found = load_text_encoder(tmp_path, OURS)(ids)
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


def test_what_we_write_is_read_by_us_and_by_transformers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = replace(OURS, vocab_size=300)  # a tokenizer has an entry for each byte
    encoder = TextEncoder(config)
    save_text_encoder(encoder, train_tokenizer(["a dog", "a cat"], config.vocab_size), tmp_path)
    ids = torch.randint(3, 60, (2, 30), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = encoder(ids)
        assert torch.equal(load_text_encoder(tmp_path, config)(ids), expected)
        theirs = ModernBertModel.from_pretrained(tmp_path)(ids, output_hidden_states=True)
    final = torch.nn.functional.layer_norm(expected, expected.shape[-1:], eps=config.layer_norm_eps)
    torch.testing.assert_close(theirs.last_hidden_state, final, rtol=2e-5, atol=2e-5)
    assert load_tokenizer(tmp_path, config.vocab_size) is not None


@pytest.mark.parametrize("layout", ["transformers", "perception_models"])
def test_a_pe_av_checkpoint_of_any_layout_gives_its_own(golden: Path, layout: str) -> None:
    model = load_model(golden / f"pe-av-{layout}")
    found = load_text_encoder(golden / f"pe-av-{layout}", model.config.text).state_dict()
    expected = model.text.state_dict()
    assert found.keys() == expected.keys()
    assert all(found[name].equal(expected[name]) for name in expected)


def test_other_sizes_are_named(tmp_path: Path) -> None:
    modernbert(tmp_path)
    wanted = replace(OURS, hidden_size=32, num_hidden_layers=9)
    with pytest.raises(CheckpointError, match=r"hidden_size 16 \(not 32\), num_hidden_layers 7 \(below 9\)"):
        load_text_encoder(tmp_path, wanted)


def test_weights_that_the_encoder_has_no_place_for_are_refused(tmp_path: Path) -> None:
    """Biases, for example: left out, they would make another model in silence."""
    modernbert(tmp_path, attention_bias=True)
    with pytest.raises(CheckpointError, match=r"attn\.Wo\.bias"):
        load_text_encoder(tmp_path, OURS)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    modernbert(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    del tensors["layers.2.mlp.Wi.weight"]
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=r"lacks .*layers\.2\.mlp\.Wi\.weight"):
        load_text_encoder(tmp_path, OURS)


def test_the_presets_text_encoder_is_modernbert_large_cut_after_its_22nd_layer() -> None:
    """By the values in the public model's config.json."""
    public = {
        "model_type": "modernbert",
        "vocab_size": 50368,
        "hidden_size": 1024,
        "intermediate_size": 2624,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "global_attn_every_n_layers": 3,
        "local_attention": 128,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
        "pad_token_id": 50283,
        "cls_token_id": 50281,
        "sep_token_id": 50282,
        "norm_eps": 1e-5,
    }
    found = read_modernbert(Section(public, "config.json"), MODERNBERT)
    for size in ("small", "base", "large"):
        assert preset(f"{size}-16-frame").text == replace(found, num_hidden_layers=22)
