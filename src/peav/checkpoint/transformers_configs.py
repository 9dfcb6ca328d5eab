"""DacConfig and ModernBertConfig of transformers, and towers, as both public layouts hold them: read and written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peav.model import CodecConfig, TextConfig, TransformerConfig
from peav.model.config import Layers

from .bundle import Json
from .fields import Field, Section

# What transformers' classes default.
DAC = {
    "encoder_hidden_size": 64,
    "downsampling_ratios": [2, 4, 8, 8],
    "codebook_dim": 8,
    "sampling_rate": 16000,
}
MODERNBERT = {"hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 22, "num_attention_heads": 12}
SIZES = tuple(MODERNBERT)  # they have these names in our configs, too


def read_dac(section: Section, defaults: Mapping[str, Any], sampling_rate: int | None = None) -> CodecConfig:
    """A codec. `sampling_rate`: what another file says, which has the last word on it."""
    names = {"hidden_size": "encoder_hidden_size", "strides": "downsampling_ratios", "latent_dim": "codebook_dim"}
    fields = {ours: section.field(its, defaults[its]) for ours, its in names.items()}
    rate = sampling_rate or section.field("sampling_rate", defaults.get("sampling_rate"))
    return section.build(CodecConfig, **fields, sampling_rate=rate)


def write_dac(config: CodecConfig) -> Json:
    """What both layouts say of a codec."""
    return {
        "encoder_hidden_size": config.hidden_size,
        "downsampling_ratios": list(config.strides),
        "codebook_size": config.width,
        "codebook_dim": config.latent_dim,
        "sampling_rate": config.sampling_rate,
    }


def read_tower(section: Section, defaults: Mapping[str, int], head_dim: Field, rope_theta: Field) -> TransformerConfig:
    """A temporal tower; the layouts tell the width of a head and the base of rotary positions in ways of their own."""
    section.require("num_key_value_heads", section.field("num_attention_heads", defaults["num_attention_heads"]).value)
    section.require("attention_bias", False)
    return section.build(
        TransformerConfig,
        **{name: section.field(name, defaults[name]) for name in SIZES},
        head_dim=head_dim,
        rope_theta=rope_theta,
        rms_norm_eps=section.field("rms_norm_eps", 1e-5),
        max_positions=section.field("max_position_embeddings", 10000),
    )


def write_tower(config: TransformerConfig) -> Json:
    """What both layouts say of a temporal tower."""
    same = {name: getattr(config, name) for name in (*SIZES, "rms_norm_eps")}
    return same | {"max_position_embeddings": config.max_positions}


def read_modernbert(section: Section, defaults: Mapping[str, Any], layers: Field | None = None) -> TextConfig:
    """A text encoder. `layers`: how many of them the model runs, None: all."""
    known = TextConfig()
    section.require("hidden_activation", "gelu")
    sizes = {name: section.field(name, defaults[name]) for name in SIZES}
    held = section.take(Layers, sizes["num_hidden_layers"])
    if layers is not None:
        sizes["num_hidden_layers"] = layers
    special = ("pad_token_id", "cls_token_id", "sep_token_id")
    return section.build(
        TextConfig,
        **sizes,
        **{name: section.given(name, getattr(known, name)) for name in special},
        **{name: section.field(name, getattr(known, name)) for name in ("vocab_size", "local_attention")},
        global_attn_every_n_layers=_global_every(section, held),
        global_rope_theta=_theta(section, "full_attention", "global_rope_theta", known.global_rope_theta),
        local_rope_theta=_theta(section, "sliding_attention", "local_rope_theta", known.local_rope_theta),
        layer_norm_eps=section.field("norm_eps", known.layer_norm_eps),
    )


def write_modernbert(config: TextConfig) -> Json:
    """What both layouts say of a text encoder."""
    data = config.to_dict()
    del data["max_length"]
    tokens = {"bos_token_id": config.cls_token_id, "eos_token_id": config.sep_token_id}
    return {"model_type": "modernbert", "norm_eps": data.pop("layer_norm_eps"), **data, **tokens}


def _theta(section: Section, kind: str, older_name: str, default: float) -> Field:
    return read_theta(section.section("rope_parameters").section(kind), section.field(older_name, default))


def read_theta(rope: Section, older: Field) -> Field:
    """The base of rotary positions; files of transformers before release 5 have it one level up."""
    rope.require("rope_type", "default")
    return rope.field("rope_theta") if "rope_theta" in rope else older


def layer_types(every: int, layers: int) -> list[str]:
    """ModernBERT's own words for which layers see every token."""
    return ["sliding_attention" if i % every else "full_attention" for i in range(layers)]


def _global_every(section: Section, layers: int) -> Field:
    given = section.field("layer_types")
    if given.value is None:
        return section.field("global_attn_every_n_layers", 3)
    kinds = section.take(list[str], given)
    later = [i for i, kind in enumerate(kinds) if kind == "full_attention" and i]
    # With a single global layer any larger period says the same; ModernBERT's own is 3.
    every = later[0] if later else max(layers, 3)
    if kinds != layer_types(every, layers):
        raise section.error("layer_types", f"does not repeat with one period over {layers} layers")
    return Field(given.name, every)
