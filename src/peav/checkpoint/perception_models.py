"""The original layout: hub revision `perception_models`.

What config.json leaves out has the defaults of the original classes: TransformerConfig, AudioEncoderConfig,
VisualEncoderConfig, PEAudioVisualEncoderConfig, PEAudioVisualConfig and PEAudioFrameConfig of facebookresearch/
perception_models, core/audio_visual_encoder/config.py, read on 2026-11-28; there a section that is absent, null or
empty counts as not given. The codec's and the text's are DacConfig's and ModernBertConfig's of transformers.
"""

from __future__ import annotations

from peav.errors import CheckpointError
from peav.model import (
    AudioConfig,
    FrameEncoderConfig,
    PEAFrameConfig,
    PEAVConfig,
    TextConfig,
    TransformerConfig,
    VideoConfig,
)
from peav.model.config import Flag, Heads, Layers, Positions, Width

from .bundle import Checkpoint, Json, ModelConfig
from .common_layout import CODEC, blocks, codec, heads, stem, text, tower
from .fields import Field, Section
from .frame_encoders import PE_CORE, find_name
from .key_map import POINTWISE, TOKEN, TRANSPOSED, Entry, module, one
from .transformers_configs import (
    DAC,
    MODERNBERT,
    read_dac,
    read_modernbert,
    read_tower,
    write_dac,
    write_modernbert,
    write_tower,
)

FIXED_FRAMES = 16
_PEAV, _PEAFRAME = _MODEL_TYPES = ("pe_audio_visual", "pe_audio_frame")
# What the original takes for a tower, the codec and the text where config.json has nothing.
_TOWER = {"hidden_size": 1024, "intermediate_size": 2752, "num_hidden_layers": 16, "num_attention_heads": 8}
_CODEC = {
    "encoder_hidden_size": 64,
    "downsampling_ratios": [2, 8, 10, 12],
    "codebook_size": 1024,
    "codebook_dim": 128,
    "sampling_rate": 48000,
}
_TEXT = {"hidden_size": 1024, "intermediate_size": 2624, "num_attention_heads": 16, "num_hidden_layers": 28}
_HEADS = {
    "audio": "audio_head",
    "video": "visual_head",
    "audio_video": "audio_visual_head",
    "text_audio": "audio_text_head",
    "text_video": "visual_text_head",
    "text_audio_video": "audio_visual_text_head",
    "audio_plus_text": "audio_plus_text_head",
    "video_plus_text": "visual_plus_text_head",
}
_BLOCK = {
    "norm1": "ln_1",
    "attention.out": "attn.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_POOL = {"out": "attn.out_proj", "norm": "layernorm", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}


def is_layout(config: Json) -> bool:
    """Whether a config.json is of this layout."""
    return "audio_visual_model" in config or "audio_model" in config or config.get("model_type") in _MODEL_TYPES


def read_config(data: Json, source: str = "config.json") -> ModelConfig:
    """Our config from config.json. Raises CheckpointError, naming the field, for what we cannot build."""
    root = Section(data, source)
    text_config = _read_text(root)
    output = root.field("output_dim", 1024)
    if "audio_visual_model" not in data and data.get("model_type") != _PEAV:
        audio = _read_audio(root.section("audio_model"))
        return root.build(PEAFrameConfig, audio=audio, text=text_config, output_dim=output)
    media = root.section("audio_visual_model")
    visual = media.section("visual_model")
    fixed = visual.take(Flag, visual.field("fixed_len_video", False))
    num_frames = visual.given("num_frames", FIXED_FRAMES) if fixed else None
    video = visual.build(
        VideoConfig,
        frame_encoder=_read_frames(visual),
        transformer=_read_tower(visual.section("visual_transformer")),
        num_frames=num_frames,
    )
    return root.build(
        PEAVConfig,
        audio=_read_audio(media.section("audio_model")),
        video=video,
        fusion=_read_tower(media.section("audio_visual_transformer")),
        text=text_config,
        output_dim=output,
    )


def text_layers(data: Json, source: str = "config.json") -> int:
    """Text layers that the checkpoint holds; the model runs the first `nth_text_layer` of them."""
    text_section = _text_section(Section(data, source))
    layers: int = text_section.take(Layers, text_section.field("num_hidden_layers", MODERNBERT["num_hidden_layers"]))
    return layers


def key_map(config: ModelConfig, layers: int) -> list[Entry]:
    """Every tensor of a checkpoint of this config with `layers` text layers."""
    if isinstance(config, PEAFrameConfig):
        scalars = [one(name, name) for name in ("logit_scale", "logit_bias")]
        return (
            _audio(config.audio, "audio_model")
            + text(layers)
            + heads({"audio": "audio_head", "text": "text_head"})
            + scalars
        )
    media = "audio_visual_model"
    return (
        _audio(config.audio, f"{media}.audio_model")
        + _video(config.video, f"{media}.visual_model")
        + _fusion(config.fusion, f"{media}.audio_visual_transformer")
        + text(layers)
        + heads(_HEADS)
    )


def write_config(checkpoint: Checkpoint) -> Json:
    """config.json of this layout. Raises CheckpointError for sizes that it cannot express."""
    config = checkpoint.config
    common = {
        "text_model": write_modernbert(config.text)
        | {"num_hidden_layers": checkpoint.text_layers(), "tie_word_embeddings": True},
        "output_dim": config.output_dim,
        "nth_text_layer": config.text.num_hidden_layers,
    }
    if isinstance(config, PEAFrameConfig):
        return {"model_type": _PEAFRAME, "audio_model": _write_audio(config.audio), **common}
    visual: Json = {
        "visual_transformer": _write_tower(config.video.transformer),
        "fixed_len_video": config.video.num_frames is not None,
    }
    frames = config.video.frame_encoder
    visual["pe_encoder"] = find_name(frames) or "custom"
    if visual["pe_encoder"] == "custom":
        visual["pe_encoder_config"] = frames.to_dict()
    if config.video.num_frames not in (None, FIXED_FRAMES):
        visual["num_frames"] = config.video.num_frames
    media = {
        "audio_visual_transformer": _write_tower(config.fusion),
        "visual_model": visual,
        "audio_model": _write_audio(config.audio),
    }
    return {"model_type": _PEAV, "audio_visual_model": media, **common}


def _read_tower(section: Section) -> TransformerConfig:
    width, count = (section.field(name, _TOWER[name]) for name in ("hidden_size", "num_attention_heads"))
    positions = section.field("max_position_embeddings", 10000)
    head_dim = section.take(Width, width) // section.take(Heads, count)
    rope_theta = Field(positions.name, _rope_theta(section.take(Positions, positions)))
    return read_tower(section, _TOWER, Field(f"{width.name} / num_attention_heads", head_dim), rope_theta)


def _rope_theta(positions: int) -> float:
    """The original never reads its `rope_theta` (class Transformer of core/audio_visual_encoder/transformer.py)."""
    return float(max(10_000, 2 * positions))


def _write_tower(config: TransformerConfig) -> Json:
    if config.head_dim * config.num_attention_heads != config.hidden_size:
        raise CheckpointError("the perception_models layout needs head_dim = hidden_size / heads; convert to another")
    if config.rope_theta != (theirs := _rope_theta(config.max_positions)):
        raise CheckpointError(
            f"the perception_models layout has rope_theta {theirs} at {config.max_positions} positions, "
            f"the model {config.rope_theta}; convert to another"
        )
    return write_tower(config) | {"rope_theta": config.rope_theta}


def _read_audio(section: Section) -> AudioConfig:
    dac = section.section("dac_vae_encoder", _CODEC)
    return AudioConfig(read_dac(dac, DAC), _read_tower(section.section("audio_transformer")))


def _write_audio(config: AudioConfig) -> Json:
    dac = write_dac(config.codec) | {"decoder_hidden_size": 1536, "n_codebooks": 16, "quantizer_dropout": 0}
    return {"dac_vae_encoder": dac, "audio_transformer": _write_tower(config.transformer)}


def _read_frames(visual: Section) -> FrameEncoderConfig:
    if "pe_encoder_config" in visual:
        return visual.section("pe_encoder_config").read(FrameEncoderConfig)
    name = visual.field("pe_encoder", "PE-Core-L14-336").value
    if name not in tuple(PE_CORE):
        raise visual.error("pe_encoder", f"is {name!r}, not one of {', '.join(PE_CORE)}")
    return PE_CORE[name]


def _text_section(root: Section) -> Section:
    return root.section("text_model", _TEXT)


def _read_text(root: Section) -> TextConfig:
    layers = text_layers(dict(root.values), root.file)
    found = root.field("nth_text_layer", 22)
    used = root.take(Layers | None, found)
    if used is None or used > layers:
        raise root.error("nth_text_layer", f"is {used}, not one of the text model's {layers} layers")
    return read_modernbert(_text_section(root), MODERNBERT, found)


def _tower(ours: str, theirs: str, layers: int) -> list[Entry]:
    embeddings = f"{theirs}.embeddings"
    return stem(ours, f"{embeddings}.cls_token", f"{embeddings}.resnet_block") + tower(ours, theirs, layers)


def _audio(config: AudioConfig, theirs: str) -> list[Entry]:
    bottleneck = f"{theirs}.dac_vae_encoder.bottleneck"
    return [
        *codec(f"{theirs}.dac_vae_encoder.encoder", len(config.codec.strides)),
        *(
            Entry((f"{CODEC}.mean.{kind}", f"{CODEC}.scale.{kind}"), (f"{bottleneck}.in_proj.{kind}",), parts=(1, 1))
            for kind in ("weight", "bias")
        ),
        *module(f"{CODEC}.decode", f"{bottleneck}.out_proj"),
        *module("audio.tower.data_proj", f"{theirs}.data_proj"),
        *_tower("audio.tower", f"{theirs}.audio_transformer", config.transformer.num_hidden_layers),
    ]


def _video(config: VideoConfig, theirs: str) -> list[Entry]:
    return [
        *_frame_encoder(config.frame_encoder, "video.frame_encoder", f"{theirs}.pe_encoder"),
        one("video.proj.weight", f"{theirs}.proj.weight"),
        *module("video.tower.data_proj", f"{theirs}.data_proj"),
        *_tower("video.tower", f"{theirs}.visual_transformer", config.transformer.num_hidden_layers),
    ]


def _fusion(config: TransformerConfig, theirs: str) -> list[Entry]:
    return [
        *module("fusion.video_proj", f"{theirs}.modality_aligner.conv", POINTWISE),
        *module("fusion.video_norm", f"{theirs}.modality_aligner.layer_norm"),
        *module("fusion.concat_proj", f"{theirs}.concat_modality_proj"),
        *module("fusion.tower.data_proj", f"{theirs}.data_proj"),
        *_tower("fusion.tower", theirs, config.num_hidden_layers),
    ]


def _frame_encoder(config: FrameEncoderConfig, ours: str, theirs: str) -> list[Entry]:
    pool, foreign_pool, resblocks = f"{ours}.pool", f"{theirs}.attn_pool", f"{theirs}.transformer.resblocks"
    return [
        one(f"{ours}.patch_embed.weight", f"{theirs}.conv1.weight"),
        *([one(f"{ours}.cls_token", f"{theirs}.class_embedding")] if config.use_cls_token else []),
        one(f"{ours}.position", f"{theirs}.positional_embedding"),
        *module(f"{ours}.norm_pre", f"{theirs}.ln_pre"),
        *module(f"{ours}.norm_post", f"{theirs}.ln_post"),
        one(f"{ours}.proj.weight", f"{theirs}.proj", TRANSPOSED),
        *blocks(f"{ours}.blocks", resblocks, config.num_layers, _BLOCK),
        *(
            one(f"{ours}.blocks.{i}.attention.qkv.{kind}", f"{resblocks}.{i}.attn.in_proj_{kind}")
            for i in range(config.num_layers)
            for kind in ("weight", "bias")
        ),
        one(f"{pool}.probe", f"{foreign_pool}.probe", TOKEN),
        *(
            Entry((f"{pool}.q.{kind}", f"{pool}.kv.{kind}"), (f"{foreign_pool}.attn.in_proj_{kind}",), parts=(1, 2))
            for kind in ("weight", "bias")
        ),
        *(entry for mine, its in _POOL.items() for entry in module(f"{pool}.{mine}", f"{foreign_pool}.{its}")),
    ]
