"""What configs of the public layouts leave out, say in an older way or ask for in vain, and what we write there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_peaframe, tiny_peav
from safetensors import safe_open

from peav.checkpoint import CheckpointError, convert, save_pretrained
from peav.checkpoint import perception_models as pm
from peav.checkpoint import transformers as tf
from peav.checkpoint.bundle import Checkpoint, parameter_shapes
from peav.checkpoint.frame_encoders import PE_CORE
from peav.checkpoint.key_map import write_entries
from peav.checkpoint.processors import Processors
from peav.model import (
    AudioConfig,
    CodecConfig,
    FrameEncoderConfig,
    PEAVConfig,
    TextConfig,
    TransformerConfig,
    VideoConfig,
    preset,
)

# The arguments of the original classes and what they default: facebookresearch/perception_models,
# core/audio_visual_encoder/config.py, as read on 2026-11-28. Every class takes any other argument, and leaves it.
META: dict[str, dict[str, Any]] = {
    "TransformerConfig": {
        "hidden_size": 1024,
        "intermediate_size": 2752,
        "num_hidden_layers": 16,
        "num_attention_heads": 8,
        "num_key_value_heads": None,
        "hidden_act": "silu",
        "max_position_embeddings": 10_000,
        "rms_norm_eps": 1e-5,
        "rope_theta": 20000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "attention_dropout": 0.0,
    },
    "AudioEncoderConfig": {"dac_vae_encoder": None, "audio_transformer": None},
    "VisualEncoderConfig": {"pe_encoder": "PE-Core-L14-336", "visual_transformer": None, "fixed_len_video": False},
    "PEAudioVisualEncoderConfig": {"audio_visual_transformer": None, "visual_model": None, "audio_model": None},
    "PEAudioVisualConfig": {"audio_visual_model": None, "text_model": None, "output_dim": 1024, "nth_text_layer": 22},
    "PEAudioFrameConfig": {"audio_model": None, "text_model": None, "output_dim": 1024, "nth_text_layer": 22},
}
_TOWER = META["TransformerConfig"]
TOWER = TransformerConfig(
    *(_TOWER[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")),
    head_dim=_TOWER["hidden_size"] // _TOWER["num_attention_heads"],
    rms_norm_eps=_TOWER["rms_norm_eps"],
    max_positions=_TOWER["max_position_embeddings"],
)
DEFAULT = PEAVConfig(
    audio=AudioConfig(CodecConfig(), TOWER),
    video=VideoConfig(FrameEncoderConfig(), TOWER, None),
    fusion=TOWER,
    text=TextConfig(),
    output_dim=1024,
)


def absent(section: dict[str, Any], *keys: str) -> Iterator[dict[str, Any]]:
    """The section without a key, and with it null or empty, for every key."""
    for key in keys:
        yield {name: value for name, value in section.items() if name != key}
        yield section | {key: None}
        yield section | {key: {}}


def test_sections_that_are_absent_null_or_empty_are_the_original_classes_defaults() -> None:
    audio = {"dac_vae_encoder": {}, "audio_transformer": {}}
    visual = {"pe_encoder": "PE-Core-L14-336", "visual_transformer": {}}
    media = {"audio_visual_transformer": {}, "visual_model": visual, "audio_model": audio}
    whole = {"model_type": "pe_audio_visual", "audio_visual_model": media, "text_model": {}}
    for change in absent(whole, "audio_visual_model", "text_model"):
        assert pm.read_config(change) == DEFAULT
        assert pm.text_layers(change) == 28
    for change in absent(media, "audio_visual_transformer", "visual_model", "audio_model"):
        assert pm.read_config(whole | {"audio_visual_model": change}) == DEFAULT
    for change in absent(audio, "dac_vae_encoder", "audio_transformer"):
        assert pm.read_config({"audio_model": change}).audio == DEFAULT.audio
    assert pm.read_config({"audio_visual_model": None}) == DEFAULT
    assert pm.read_config({"model_type": "pe_audio_frame"}).audio == DEFAULT.audio


def test_sections_that_are_there_default_to_the_classes_of_transformers() -> None:
    """Which are smaller than what the original takes for a section that is absent."""
    transformers = pytest.importorskip("transformers")
    DacConfig, ModernBertConfig = transformers.DacConfig, transformers.ModernBertConfig

    codec = pm.read_config({"audio_model": {"dac_vae_encoder": {"n_codebooks": 9}}}).audio.codec
    theirs = DacConfig()
    assert codec == CodecConfig(
        theirs.encoder_hidden_size, tuple(theirs.downsampling_ratios), theirs.codebook_dim, theirs.sampling_rate
    )
    text = pm.read_config({"audio_model": {}, "text_model": {"model_type": "modernbert"}, "nth_text_layer": 20}).text
    bert = ModernBertConfig()
    for name in ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "local_attention"):
        assert getattr(text, name) == getattr(bert, name), name
    assert text.layer_norm_eps == bert.norm_eps
    assert pm.text_layers({"text_model": {"model_type": "modernbert"}}) == bert.num_hidden_layers
    # The original's own default names this, and ModernBertConfig does not take it.
    text = pm.read_config({"audio_model": {}, "text_model": {"layer_norm_eps": 0.5}}).text
    assert text.layer_norm_eps == bert.norm_eps


@pytest.mark.parametrize(("positions", "theta"), [(10_000, 20_000.0), (3_000, 10_000.0), (40_000, 80_000.0)])
def test_the_original_makes_rope_theta_of_the_positions(positions: int, theta: float) -> None:
    """`max(10_000, 2 * config.max_position_embeddings)`, in class Transformer of its transformer.py."""
    tower = {"rope_theta": 5.0, "max_position_embeddings": positions}
    found = pm.read_config({"audio_model": {"audio_transformer": tower}}).audio.transformer
    assert (found.rope_theta, found.max_positions) == (theta, positions)


def test_a_model_with_another_theta_does_not_go_into_the_original_layout(tmp_path: Path) -> None:
    model = tiny_peaframe()
    data = model.config.to_dict()
    data["audio"]["transformer"]["rope_theta"] = 12345.0
    model.config = type(model.config).from_dict(data)
    start = save_pretrained(model, tmp_path / "start")
    with pytest.raises(CheckpointError, match=r"rope_theta 20000\.0 at 10000 positions, the model 12345\.0"):
        convert(start, tmp_path / "there", "perception_models")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"audio_model": {"audio_transformer": {"hidden_size": None}}}, "audio_model.audio_transformer.hidden_size"),
        ({"audio_model": {"audio_transformer": {"num_key_value_heads": 2}}}, "audio_transformer.num_key_value_heads"),
        ({"audio_model": {"audio_transformer": {"attention_bias": True}}}, "audio_transformer.attention_bias"),
        ({"audio_model": {"audio_transformer": 7}}, "audio_model.audio_transformer"),
        ({"audio_model": {"dac_vae_encoder": {"downsampling_ratios": "x"}}}, "dac_vae_encoder.downsampling_ratios"),
        ({"text_model": {"num_hidden_layers": 10**9}}, "text_model.num_hidden_layers"),
        ({"text_model": {"layer_types": ["full_attention", 3]}}, "text_model.layer_types.1"),
        ({"text_model": {"hidden_activation": "relu"}}, "text_model.hidden_activation"),
        ({"nth_text_layer": "x"}, "nth_text_layer"),
        ({"output_dim": None}, "output_dim"),
        ({"audio_visual_model": {"visual_model": {"fixed_len_video": "no"}}}, "visual_model.fixed_len_video"),
        ({"audio_visual_model": {"visual_model": {"pe_encoder": None}}}, "visual_model.pe_encoder"),
        ({"audio_visual_model": {"visual_model": {"pe_encoder": ["x"]}}}, "visual_model.pe_encoder"),
    ],
)
def test_what_cannot_be_read_is_named_as_the_file_has_it(change: dict[str, Any], field: str) -> None:
    with pytest.raises(CheckpointError, match=f"config.json: .*{field} is "):
        pm.read_config({"audio_model": {}} | change)


def golden_transformers(golden: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((golden / "pe-av-transformers" / "config.json").read_text())
    return data


def test_transformers_files_of_any_age_say_the_same(golden: Path) -> None:
    expected = tf.read_config(golden_transformers(golden), Processors())
    data = golden_transformers(golden)
    media = data["audio_video_config"]
    for tower in (media, media["audio_config"], media["video_config"]):  # before release 5
        tower["rope_theta"] = tower.pop("rope_parameters")["rope_theta"]
    data["text_config"]["global_rope_theta"], data["text_config"]["local_rope_theta"] = 160000.0, 10000.0
    del data["text_config"]["rope_parameters"], data["text_config"]["layer_types"]
    assert tf.read_config(data, Processors()) == expected
    vision = media["video_config"]["vision_config"]
    for numbers in ({}, {"num_classes": 1024}, {"num_classes": 512}, {"num_labels": 512}):
        for name in ("num_classes", "num_labels"):
            vision.pop(name, None)
        vision |= numbers
        assert tf.read_config(data, Processors()) == expected
    del vision["label_names"]
    assert tf.read_config(data, Processors()) == expected
    vision["model_args"] = {"img_size": [384, 384], "patch_size": [16, 16]}
    assert tf.read_config(data, Processors()) == expected
    media["rope_theta"] = 7.0
    assert tf.read_config(data, Processors()).fusion.rope_theta == 7.0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("place", "value", "field"),
    [
        (("video_config", "vision_config", "model_args"), {"img_size": [384, 336]}, "model_args.img_size"),
        (("video_config", "vision_config", "model_args"), {"qk_norm": True}, "model_args.qk_norm"),
        (("video_config", "vision_config", "model_args"), {"rope_grid_offset": 0.5}, "model_args.rope_grid_offset"),
        (("video_config", "vision_config", "architecture"), "resnet50", "vision_config.architecture"),
        (("video_config", "vision_config", "num_labels"), 0, "output_dim|num_labels"),
        (("rope_parameters",), {"rope_theta": float("nan")}, "audio_video_config.rope_parameters.rope_theta"),
        (("rope_parameters",), {"rope_type": "yarn"}, "audio_video_config.rope_parameters.rope_type"),
        (("hidden_act",), "gelu", "audio_video_config.hidden_act"),
        (("num_key_value_heads",), 1, "audio_video_config.num_key_value_heads"),
    ],
)
def test_what_transformers_could_do_and_pe_av_does_not_is_refused(
    golden: Path, place: tuple[str, ...], value: Any, field: str
) -> None:
    data = golden_transformers(golden)
    section = data["audio_video_config"]
    for step in place[:-1]:
        section = section[step]
    section[place[-1]] = value
    with pytest.raises(CheckpointError, match=f"config.json: .*({field})"):
        tf.read_config(data, Processors())


@pytest.mark.slow
def test_what_we_write_are_arguments_of_the_original_classes() -> None:
    """And of transformers' two; what is ours beyond them is named here."""
    transformers = pytest.importorskip("transformers")
    DacConfig, ModernBertConfig = transformers.DacConfig, transformers.ModernBertConfig

    dac, bert = set(DacConfig().to_dict()), set(ModernBertConfig().to_dict())
    # Names of transformers before release 5, which later ones still read.
    bert |= {"global_attn_every_n_layers", "global_rope_theta", "local_rope_theta"}
    models = (tiny_peav(), tiny_peaframe())
    video, frame = (pm.write_config(Checkpoint(model.config, dict(model.state_dict()))) for model in models)
    media = video["audio_visual_model"]
    for audio in (media["audio_model"], frame["audio_model"]):
        assert set(audio) == set(META["AudioEncoderConfig"])
        assert set(audio["dac_vae_encoder"]) <= dac
        assert set(audio["audio_transformer"]) <= set(META["TransformerConfig"])
    assert set(media) == set(META["PEAudioVisualEncoderConfig"])
    assert set(media["visual_model"]) - set(META["VisualEncoderConfig"]) == {"pe_encoder_config", "num_frames"}
    for tower in (media["visual_model"]["visual_transformer"], media["audio_visual_transformer"]):
        assert set(tower) <= set(META["TransformerConfig"])
    assert set(video) - set(META["PEAudioVisualConfig"]) == {"model_type"}
    assert set(frame) - set(META["PEAudioFrameConfig"]) == {"model_type"}
    assert set(video["text_model"]) <= bert


Shapes = dict[str, tuple[int, ...]]


def layered(prefix: str, layers: int, shapes: Shapes) -> Shapes:
    return {f"{prefix}.{i}.{name}": shape for i in range(layers) for name, shape in shapes.items()}


def linear(name: str, outputs: int, inputs: int, *kernel: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, *kernel), f"{name}.bias": (outputs,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def tower(prefix: str, width: int, hidden: int, layers: int) -> Shapes:
    """One temporal tower as the original names it; its heads are 128 wide."""
    block = {f"self_attn.{x}_proj.weight": (width, width) for x in "qkvo"}
    block |= {f"self_attn.{x}_norm.weight": (128,) for x in "qk"}
    block |= {f"mlp.{x}_proj.weight": (hidden, width) for x in ("gate", "up")} | {
        "mlp.down_proj.weight": (width, hidden)
    }
    block |= {"input_layernorm.weight": (width,), "post_attention_layernorm.weight": (width,)}
    shapes = layered(f"{prefix}.layers", layers, block) | {f"{prefix}.embeddings.cls_token": (1, 1, width)}
    for i in (1, 2):
        stem = f"{prefix}.embeddings.resnet_block.block{i}"
        shapes |= norm(f"{stem}.groupnorm", width) | linear(f"{stem}.project", width, width, 3)
    return shapes | {f"{prefix}.norm.weight": (width,), f"{prefix}.output.weight": (width, width)}


def audio(prefix: str, codec: int, width: int, hidden: int, layers: int) -> Shapes:
    dac = f"{prefix}.dac_vae_encoder"
    shapes = linear(f"{dac}.encoder.conv1", codec, 1, 7)
    for i, stride in enumerate((2, 8, 10, 12)):
        channels, block = codec * 2**i, f"{dac}.encoder.block.{i}"
        for j in (1, 2, 3):
            unit = f"{block}.res_unit{j}"
            shapes |= {f"{unit}.snake{k}.alpha": (1, channels, 1) for k in (1, 2)}
            shapes |= linear(f"{unit}.conv1", channels, channels, 7) | linear(f"{unit}.conv2", channels, channels, 1)
        shapes |= {f"{block}.snake1.alpha": (1, channels, 1)}
        shapes |= linear(f"{block}.conv1", 2 * channels, channels, 2 * stride)
    last = 16 * codec
    shapes |= {f"{dac}.encoder.snake1.alpha": (1, last, 1)} | linear(f"{dac}.encoder.conv2", last, last, 3)
    shapes |= linear(f"{dac}.bottleneck.in_proj", 256, last, 1) | linear(f"{dac}.bottleneck.out_proj", last, 128, 1)
    return (
        shapes | linear(f"{prefix}.data_proj", width, 128) | tower(f"{prefix}.audio_transformer", width, hidden, layers)
    )


def vision(prefix: str, config: FrameEncoderConfig) -> Shapes:
    width, pool = config.width, f"{prefix}.attn_pool"
    block = norm("ln_1", width) | norm("ln_2", width) | linear("attn.out_proj", width, width)
    block |= {"attn.in_proj_weight": (3 * width, width), "attn.in_proj_bias": (3 * width,)}
    block |= linear("mlp.c_fc", 4 * width, width) | linear("mlp.c_proj", width, 4 * width)
    shapes = layered(f"{prefix}.transformer.resblocks", config.num_layers, block)
    shapes |= {f"{prefix}.conv1.weight": (width, 3, config.patch_size, config.patch_size)}
    shapes |= {f"{prefix}.class_embedding": (width,), f"{prefix}.positional_embedding": (config.grid**2 + 1, width)}
    shapes |= norm(f"{prefix}.ln_pre", width) | norm(f"{prefix}.ln_post", width)
    shapes |= {f"{prefix}.proj": (width, config.output_dim), f"{pool}.probe": (1, 1, width)}
    shapes |= {f"{pool}.attn.in_proj_weight": (3 * width, width), f"{pool}.attn.in_proj_bias": (3 * width,)}
    shapes |= linear(f"{pool}.attn.out_proj", width, width) | norm(f"{pool}.layernorm", width)
    return shapes | linear(f"{pool}.mlp.c_fc", 4 * width, width) | linear(f"{pool}.mlp.c_proj", width, 4 * width)


def bert(vocabulary: int, width: int, hidden: int, layers: int) -> Shapes:
    block = {"attn.Wqkv.weight": (3 * width, width), "attn.Wo.weight": (width, width), "attn_norm.weight": (width,)}
    block |= {"mlp_norm.weight": (width,), "mlp.Wi.weight": (2 * hidden, width), "mlp.Wo.weight": (width, hidden)}
    shapes = layered("text_model.layers", layers, block)
    del shapes["text_model.layers.0.attn_norm.weight"]  # the first layer has none
    shapes |= {"text_model.embeddings.tok_embeddings.weight": (vocabulary, width)}
    return shapes | {f"text_model.{x}.weight": (width,) for x in ("embeddings.norm", "final_norm")}


def head(name: str, inputs: int, outputs: int) -> Shapes:
    return norm(f"{name}.layer_norm", inputs) | {f"{name}.proj.weight": (outputs, inputs)}


def pe_av(
    codec: int, width: int, hidden: int, layers: tuple[int, int, int], pe: str, text: tuple[int, int, int, int], d: int
) -> Shapes:
    """Every tensor of the original's PEAudioVisual: `layers` of audio, video and fusion, `text` as `bert` takes it."""
    media, visual, fusion = "audio_visual_model", "audio_visual_model.visual_model", PE_CORE[pe]
    shapes = audio(f"{media}.audio_model", codec, width, hidden, layers[0]) | vision(f"{visual}.pe_encoder", fusion)
    shapes |= {f"{visual}.proj.weight": (width, fusion.output_dim)} | linear(f"{visual}.data_proj", width, width)
    shapes |= tower(f"{visual}.visual_transformer", width, hidden, layers[1])
    both = f"{media}.audio_visual_transformer"
    shapes |= tower(both, width, hidden, layers[2]) | linear(f"{both}.data_proj", width, width)
    shapes |= linear(f"{both}.modality_aligner.conv", width, width, 1) | norm(
        f"{both}.modality_aligner.layer_norm", width
    )
    shapes |= linear(f"{both}.concat_modality_proj", width, 2 * width) | bert(*text)
    for name in ("audio", "visual", "audio_visual"):
        shapes |= head(f"{name}_head", width, d) | head(f"{name}_text_head", text[1], d)
    for name in ("audio", "visual"):
        shapes |= head(f"{name}_plus_text_head", width + text[1], d)
    return shapes


def pe_a_frame(codec: int, width: int, hidden: int, layers: int, text: tuple[int, int, int, int], d: int) -> Shapes:
    """Every tensor of the original's PEAudioFrame."""
    shapes = audio("audio_model", codec, width, hidden, layers) | bert(*text)
    shapes |= head("audio_head", width, d) | head("text_head", text[1], d)
    return shapes | {"logit_scale": (1,), "logit_bias": (1,)}


GOLDEN_TEXT, OFFICIAL_TEXT = (2000, 128, 192, 5), (50368, 1024, 2624, 28)


def test_the_original_layouts_tensors_are_written_out_right(golden: Path) -> None:
    """The lists above are golden's at golden's sizes, so that they can be trusted at others."""
    lists = {
        "pe-av": pe_av(8, 256, 512, (2, 1, 1), "PE-Core-T16-384", GOLDEN_TEXT, 128),
        "pe-a-frame": pe_a_frame(8, 256, 512, 2, GOLDEN_TEXT, 128),
    }
    for kind, expected in lists.items():
        with safe_open(golden / f"{kind}-perception_models" / "model.safetensors", "pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        assert found == expected


@pytest.mark.parametrize("name", ["small", "frame-small"])
def test_small_goes_into_the_original_layout_tensor_by_tensor(name: str) -> None:
    """Names and shapes, without a weight: the real model has 28 text layers, ours the 22 that are read."""
    import torch

    config = preset(name)
    with torch.device("meta"):
        tensors = {key: torch.empty(shape) for key, shape in parameter_shapes(config).items()}
        checkpoint = Checkpoint(config, tensors)
        checkpoint.add_unread(28, bottleneck=True)
        theirs, _ = write_entries(pm.key_map(config, 28), checkpoint.tensors)
    expected = (
        pe_a_frame(64, 768, 2048, 12, OFFICIAL_TEXT, 1024)
        if name.startswith("frame")
        else pe_av(64, 768, 2048, (12, 4, 6), "PE-Core-L14-336", OFFICIAL_TEXT, 1024)
    )
    assert {key: tuple(tensor.shape) for key, tensor in theirs.items()} == expected
