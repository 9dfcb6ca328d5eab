"""The transformers layout (PeAudioVideoModel, PeAudioFrameLevelModel): hub revision `main`."""

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

from .bundle import Checkpoint, Json, ModelConfig
from .common_layout import CODEC, blocks, codec, heads, stem, text, tower
from .fields import Field, Section
from .frame_encoders import TIMM, find_name, timm_name
from .key_map import BATCHED, POINTWISE, TOKEN, Entry, Tensors, module, one
from .processors import Processors
from .transformers_configs import (
    layer_types,
    read_dac,
    read_modernbert,
    read_theta,
    read_tower,
    write_dac,
    write_modernbert,
    write_tower,
)

_VISION = "video_model.video_encoder.embedder.vision_model.timm_model"
_HEADS = {
    "audio": "audio_model.audio_head",
    "video": "video_model.video_head",
    "audio_video": "audio_video_head",
    "text_audio": "audio_model.text_audio_head",
    "text_video": "video_model.text_video_head",
    "text_audio_video": "text_audio_video_head",
    "audio_plus_text": "audio_plus_text_head",
    "video_plus_text": "video_plus_text_head",
}
# What PE-AV's classes default, and what they do over those of DacConfig and ModernBertConfig.
_TOWER = {"hidden_size": 1792, "intermediate_size": 4800, "num_hidden_layers": 6, "num_attention_heads": 14}
_CODEC = {"encoder_hidden_size": 64, "downsampling_ratios": [2, 8, 10, 12], "codebook_dim": 128}
_TEXT = {"hidden_size": 1024, "intermediate_size": 2624, "num_hidden_layers": 22, "num_attention_heads": 16}
# Six of the ten pairs have a scale and a bias here; the original layout has none.
_PAIRS = {
    "a_ac": "audio_model.text_audio",
    "v_vc": "video_model.text_video",
    "av_avc": "text_audio_video",
    "a_v": "audio_video",
    "a_vc__v": "audio_plus_text",
    "v_ac__a": "video_plus_text",
}
# Modules that are one in memory; a file may hold any of the names.
_ALIASES = {
    "audio_model.text_model.": "text_model.",
    "video_model.text_model.": "text_model.",
    "audio_video_encoder.embedder.audio_encoder.": "audio_model.audio_encoder.",
    "audio_video_encoder.embedder.video_encoder.": "video_model.video_encoder.",
}
_BLOCK = {m: m for m in ("norm1", "norm2", "mlp.fc1", "mlp.fc2")} | {
    "attention.qkv": "attn.qkv",
    "attention.out": "attn.proj",
}
_POOL = {m: m for m in ("q", "kv", "norm", "mlp.fc1", "mlp.fc2")} | {"out": "proj"}
# Our frame encoder's sizes as arguments of timm's constructor; the width of its output is no argument but `num_labels`.
_TIMM_ARGS = {
    "image_size": "img_size",
    "patch_size": "patch_size",
    "width": "embed_dim",
    "num_layers": "depth",
    "num_heads": "num_heads",
    "mlp_ratio": "mlp_ratio",
    "pool_heads": "attn_pool_num_heads",
    "use_cls_token": "class_token",
}


def is_layout(config: Json) -> bool:
    """Whether a config.json is of this layout."""
    return config.get("model_type") in ("pe_audio_video", "pe_audio")


def read_config(data: Json, processors: Processors, source: str = "config.json") -> ModelConfig:
    """Our config from config.json and the processor files. Raises CheckpointError naming what we cannot build."""
    root = Section(data, source)
    text_config = read_modernbert(root.section("text_config"), _TEXT)
    output = text_config.hidden_size
    if data["model_type"] == "pe_audio":
        audio = _read_audio(root.section("audio_config"), processors.sampling_rate)
        return PEAFrameConfig(audio, text_config, output)
    media = root.section("audio_video_config")
    video = media.section("video_config")
    return PEAVConfig(
        audio=_read_audio(media.section("audio_config"), processors.sampling_rate),
        video=video.build(
            VideoConfig,
            frame_encoder=_read_frames(video.section("vision_config")),
            transformer=_read_tower(video),
            num_frames=processors.num_frames,
        ),
        fusion=_read_tower(media),
        text=text_config,
        output_dim=output,
    )


def key_map(config: ModelConfig) -> list[Entry]:
    """Every tensor of a checkpoint of this config."""
    texts = text(config.text.num_hidden_layers)
    if isinstance(config, PEAFrameConfig):
        scalars = [one(name, f"text_audio_{name}") for name in ("logit_scale", "logit_bias")]
        named = heads({"audio": "audio_head", "text": "text_audio_head"})
        return _audio(config.audio, "audio_encoder") + texts + named + scalars
    scalars = [
        one(f"{kind}.{ours}", f"{its}_{kind}") for ours, its in _PAIRS.items() for kind in ("logit_scale", "logit_bias")
    ]
    media = _audio(config.audio, "audio_model.audio_encoder") + _video(config.video) + _fusion(config.fusion)
    return media + texts + heads(_HEADS) + scalars


def canonical_names(theirs: Tensors) -> Tensors:
    """The tensors with tied modules under one name. Raises CheckpointError where two copies differ."""
    named: Tensors = {}
    for name, tensor in theirs.items():
        prefix = next((alias for alias in _ALIASES if name.startswith(alias)), None)
        target = name if prefix is None else _ALIASES[prefix] + name[len(prefix) :]
        if target in named and not named[target].equal(tensor):
            raise CheckpointError(f"{name} and {target} are one tensor by name but differ: the file is damaged")
        named[target] = tensor
    return named


def write_config(checkpoint: Checkpoint) -> Json:
    """config.json of this layout. Raises CheckpointError for sizes that it cannot express."""
    config = checkpoint.config
    if config.output_dim != config.text.hidden_size:
        raise CheckpointError("the transformers layout needs output_dim = text hidden_size; convert to another layout")
    common = {"text_config": _write_text(config.text), "dtype": str(checkpoint.dtype).removeprefix("torch.")}
    if isinstance(config, PEAFrameConfig):
        audio = _write_audio(config.audio)
        return {"architectures": ["PeAudioFrameLevelModel"], "model_type": "pe_audio", "audio_config": audio, **common}
    video = {
        "model_type": "pe_video_encoder",
        "vision_config": _write_frames(config.video.frame_encoder),
        **_write_tower(config.video.transformer),
    }
    media = {
        "model_type": "pe_audio_video_encoder",
        "audio_config": _write_audio(config.audio),
        "video_config": video,
        **_write_tower(config.fusion),
    }
    architecture = {"architectures": ["PeAudioVideoModel"], "model_type": "pe_audio_video"}
    return {**architecture, "audio_video_config": media, "tie_word_embeddings": True, **common}


def _read_tower(section: Section) -> TransformerConfig:
    section.require("hidden_act", "silu")
    section.require("rope_scaling", {})
    rope_theta = read_theta(section.section("rope_parameters"), section.field("rope_theta", 20000.0))
    return read_tower(section, _TOWER, section.field("head_dim", 128), rope_theta)


def _write_tower(config: TransformerConfig) -> Json:
    return write_tower(config) | {
        "num_key_value_heads": config.num_attention_heads,
        "head_dim": config.head_dim,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
    }


def _read_audio(section: Section, sampling_rate: int) -> AudioConfig:
    # The codec's own config is not asked: it says 16 kHz unless told otherwise, and transformers never reads it.
    return AudioConfig(read_dac(section.section("dac_config"), _CODEC, sampling_rate), _read_tower(section))


def _write_audio(config: AudioConfig) -> Json:
    dac = {"model_type": "dac", **write_dac(config.codec)}
    return {"model_type": "pe_audio_encoder", "dac_config": dac, **_write_tower(config.transformer)}


def _read_frames(vision: Section) -> FrameEncoderConfig:
    name = vision.field("architecture", "vit_pe_core_large_patch14_336").value
    known = TIMM.get(str(name).split(".")[0])
    if known is None:
        raise vision.error("architecture", f"is {name!r}, not one of {', '.join(TIMM)}")
    given = vision.section("model_args")
    # What transformers itself saves has no `num_labels`, and `num_classes` may be the default of another size.
    labels = vision.take(list[str] | None, vision.field("label_names"))
    fields = {ours: _side(given.field(its, getattr(known, ours))) for ours, its in _TIMM_ARGS.items()}
    outputs = vision.given("num_labels", known.output_dim if labels is None else len(labels))
    config = given.build(FrameEncoderConfig, **fields, output_dim=outputs)
    for its, value in _rotary_args(config).items():
        given.require(its, value)
    if unknown := set(given.values) - {*_TIMM_ARGS.values(), *_rotary_args(config), "num_classes"}:
        raise given.error(min(unknown), "is an argument of timm's that peav does not know")
    return config


def _side(field: Field) -> Field:
    """timm takes `img_size` and `patch_size` as one number or as two; ours are square."""
    value = field.value
    square = isinstance(value, list) and len(value) == 2 and value[0] == value[1]
    return field._replace(value=value[0]) if square else field


def _rotary_args(config: FrameEncoderConfig) -> Json:
    """timm's arguments for the rotary positions that PE-Core has at any size."""
    return {"ref_feat_shape": [config.grid, config.grid], "rope_grid_offset": float(config.use_cls_token)}


def _write_frames(config: FrameEncoderConfig) -> Json:
    name = find_name(config)
    vision: Json = {"model_type": "timm_wrapper", "architecture": timm_name(name or "PE-Core-L14-336")}
    if name is None:
        vision["model_args"] = {its: config.to_dict()[ours] for ours, its in _TIMM_ARGS.items()} | _rotary_args(config)
    # transformers reads the width of the output from `num_labels` here, and from `num_classes` up to release 5.23.
    outputs = config.output_dim
    labels = [f"LABEL_{i}" for i in range(outputs)]
    widths = {"num_labels": outputs, "num_classes": outputs, "label_names": labels}
    return {**vision, "do_pooling": True, "global_pool": "map", **widths}


def _write_text(config: TextConfig) -> Json:
    ropes = {"full_attention": config.global_rope_theta, "sliding_attention": config.local_rope_theta}
    data = write_modernbert(config)
    for name in ("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta"):
        del data[name]
    return {
        **data,
        "layer_types": layer_types(config.global_attn_every_n_layers, config.num_hidden_layers),
        "rope_parameters": {kind: {"rope_theta": theta, "rope_type": "default"} for kind, theta in ropes.items()},
    }


def _tower(ours: str, theirs: str, layers: int) -> list[Entry]:
    embedder = f"{theirs}.patch_embedder"
    return [
        *module(f"{ours}.data_proj", f"{theirs}.embedder.data_proj"),
        *stem(ours, f"{embedder}.class_embedding", f"{embedder}.resnet_block"),
        *tower(ours, theirs, layers),
    ]


def _audio(config: AudioConfig, theirs: str) -> list[Entry]:
    embedder = f"{theirs}.embedder"
    return [
        *codec(f"{embedder}.dac_encoder", len(config.codec.strides)),
        *module(f"{CODEC}.mean", f"{embedder}.bottleneck"),
        *_tower("audio.tower", theirs, config.transformer.num_hidden_layers),
    ]


def _video(config: VideoConfig) -> list[Entry]:
    theirs = "video_model.video_encoder"
    return [
        *_frame_encoder(config.frame_encoder, "video.frame_encoder", _VISION),
        one("video.proj.weight", f"{theirs}.embedder.proj.weight"),
        *_tower("video.tower", theirs, config.transformer.num_hidden_layers),
    ]


def _fusion(config: TransformerConfig) -> list[Entry]:
    theirs = "audio_video_encoder"
    return [
        *module("fusion.video_proj", f"{theirs}.embedder.video_proj", POINTWISE),
        *module("fusion.video_norm", f"{theirs}.embedder.video_norm"),
        *module("fusion.concat_proj", f"{theirs}.embedder.concat_modality_proj"),
        *_tower("fusion.tower", theirs, config.num_hidden_layers),
    ]


def _frame_encoder(config: FrameEncoderConfig, ours: str, theirs: str) -> list[Entry]:
    return [
        one(f"{ours}.patch_embed.weight", f"{theirs}.patch_embed.proj.weight"),
        *([one(f"{ours}.cls_token", f"{theirs}.cls_token", TOKEN)] if config.use_cls_token else []),
        one(f"{ours}.position", f"{theirs}.pos_embed", BATCHED),
        *module(f"{ours}.norm_pre", f"{theirs}.norm_pre"),
        *module(f"{ours}.norm_post", f"{theirs}.norm"),
        *module(f"{ours}.proj", f"{theirs}.head"),
        *blocks(f"{ours}.blocks", f"{theirs}.blocks", config.num_layers, _BLOCK),
        one(f"{ours}.pool.probe", f"{theirs}.attn_pool.latent", TOKEN),
        *(entry for mine, its in _POOL.items() for entry in module(f"{ours}.pool.{mine}", f"{theirs}.attn_pool.{its}")),
    ]
