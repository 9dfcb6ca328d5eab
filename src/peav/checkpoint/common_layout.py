"""Entries for the parts that both public layouts name alike."""

from __future__ import annotations

from .key_map import CHANNEL, TOKEN, Entry, module, one, stacked

CODEC = "audio.codec"


def tower(ours: str, theirs: str, layers: int) -> list[Entry]:
    """A temporal tower's layers, final norm and output; `stem` and `data_proj` come on top."""
    entries = [
        one(f"{ours}.norm.weight", f"{theirs}.norm.weight"),
        one(f"{ours}.output.weight", f"{theirs}.output.weight"),
    ]
    for i in range(layers):
        mine, its = f"{ours}.layers.{i}", f"{theirs}.layers.{i}"
        attention, mlp = f"{its}.self_attn", f"{its}.mlp"
        entries += [
            one(f"{mine}.norm1.weight", f"{its}.input_layernorm.weight"),
            one(f"{mine}.norm2.weight", f"{its}.post_attention_layernorm.weight"),
            stacked(f"{mine}.attention.qkv.weight", *(f"{attention}.{x}_proj.weight" for x in "qkv")),
            one(f"{mine}.attention.q_norm.weight", f"{attention}.q_norm.weight"),
            one(f"{mine}.attention.k_norm.weight", f"{attention}.k_norm.weight"),
            one(f"{mine}.attention.out.weight", f"{attention}.o_proj.weight"),
            stacked(f"{mine}.mlp.gate_up.weight", f"{mlp}.gate_proj.weight", f"{mlp}.up_proj.weight"),
            one(f"{mine}.mlp.down.weight", f"{mlp}.down_proj.weight"),
        ]
    return entries


def stem(ours: str, cls_token: str, block: str) -> list[Entry]:
    """A tower's CLS token and convolution stem."""
    entries = [one(f"{ours}.cls_token", cls_token, TOKEN)]
    for i in (1, 2):
        entries += module(f"{ours}.stem.norm{i}", f"{block}.block{i}.groupnorm")
        entries += module(f"{ours}.stem.conv{i}", f"{block}.block{i}.project")
    return entries


def codec(theirs: str, stages: int) -> list[Entry]:
    """The codec's encoder, without its bottleneck."""
    entries = module(f"{CODEC}.conv_in", f"{theirs}.conv1") + module(f"{CODEC}.conv_out", f"{theirs}.conv2")
    entries.append(one(f"{CODEC}.snake.alpha", f"{theirs}.snake1.alpha", CHANNEL))
    for i in range(stages):
        mine, its = f"{CODEC}.blocks.{i}", f"{theirs}.block.{i}"
        entries += module(f"{mine}.conv", f"{its}.conv1")
        entries.append(one(f"{mine}.snake.alpha", f"{its}.snake1.alpha", CHANNEL))
        for j in range(3):
            for k in (1, 2):
                unit, foreign = f"{mine}.units.{j}", f"{its}.res_unit{j + 1}"
                entries += module(f"{unit}.conv{k}", f"{foreign}.conv{k}")
                entries.append(one(f"{unit}.snake{k}.alpha", f"{foreign}.snake{k}.alpha", CHANNEL))
    return entries


def text(layers: int) -> list[Entry]:
    """ModernBERT with `layers` layers, its final norm (which PE-AV never reads) included."""
    entries = [
        one("text.tokens.weight", "text_model.embeddings.tok_embeddings.weight"),
        one("text.norm.weight", "text_model.embeddings.norm.weight"),
        one("text.final_norm.weight", "text_model.final_norm.weight"),
    ]
    for i in range(layers):
        mine, its = f"text.layers.{i}", f"text_model.layers.{i}"
        if i:
            entries.append(one(f"{mine}.norm1.weight", f"{its}.attn_norm.weight"))
        entries += [
            one(f"{mine}.attention.qkv.weight", f"{its}.attn.Wqkv.weight"),
            one(f"{mine}.attention.out.weight", f"{its}.attn.Wo.weight"),
            one(f"{mine}.norm2.weight", f"{its}.mlp_norm.weight"),
            one(f"{mine}.mlp.input_gate.weight", f"{its}.mlp.Wi.weight"),
            one(f"{mine}.mlp.out.weight", f"{its}.mlp.Wo.weight"),
        ]
    return entries


def heads(names: dict[str, str]) -> list[Entry]:
    """Projection heads, {ours: theirs}."""
    entries: list[Entry] = []
    for ours, theirs in names.items():
        entries += module(f"heads.{ours}.norm", f"{theirs}.layer_norm")
        entries.append(one(f"heads.{ours}.proj.weight", f"{theirs}.proj.weight"))
    return entries


def blocks(ours: str, theirs: str, layers: int, names: dict[str, str]) -> list[Entry]:
    """ViT blocks, {our module: theirs} within each."""
    return [
        entry
        for i in range(layers)
        for mine, its in names.items()
        for entry in module(f"{ours}.{i}.{mine}", f"{theirs}.{i}.{its}")
    ]
