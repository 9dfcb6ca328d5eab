"""The original layout: hub revision `perception_models`."""

from __future__ import annotations

from peav.model import (
    AudioConfig,
    CodecConfig,
    FrameEncoderConfig,
    PEAFrameConfig,
    PEAVConfig,
    TextConfig,
    TransformerConfig,
    VideoConfig,
)

from .entries import POINTWISE, TOKEN, TRANSPOSED, Entry, module, one
from .errors import CheckpointError
from .frame_encoders import PE_CORE, find_name
from .source import Checkpoint, Json, ModelConfig
from .towers import CODEC, blocks, codec, heads, stem, text, tower

FIXED_FRAMES = 16
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


def recognises(config: Json) -> bool:
    """Whether a config.json is of this layout."""
    return "audio_visual_model" in config or "audio_transformer" in config.get("audio_model", {})


def read_config(data: Json) -> ModelConfig:
    """Our config from config.json. Raises CheckpointError where the original has what we do not support."""
    text_config = _read_text(data)
    output = data.get("output_dim", 1024)
    if "audio_visual_model" not in data:
        return PEAFrameConfig(_read_audio(data["audio_model"]), text_config, output)
    media = data["audio_visual_model"]
    visual = media["visual_model"]
    num_frames = visual.get("num_frames", FIXED_FRAMES) if visual.get("fixed_len_video") else None
    return PEAVConfig(
        audio=_read_audio(media["audio_model"]),
        video=VideoConfig(_read_frames(visual), _read_tower(visual["visual_transformer"]), num_frames),
        fusion=_read_tower(media["audio_visual_transformer"]),
        text=text_config,
        output_dim=output,
    )


def text_layers(data: Json) -> int:
    """Text layers that the checkpoint holds; the model runs the first `nth_text_layer` of them."""
    return int(data["text_model"].get("num_hidden_layers", 28))


def entries(config: ModelConfig, layers: int) -> list[Entry]:
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
        "text_model": _write_text(config.text, checkpoint.text_layers()),
        "output_dim": config.output_dim,
        "nth_text_layer": config.text.num_hidden_layers,
    }
    if isinstance(config, PEAFrameConfig):
        return {"model_type": "pe_audio_frame", "audio_model": _write_audio(config.audio), **common}
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
    return {"model_type": "pe_audio_visual", "audio_visual_model": media, **common}


def _read_tower(data: Json) -> TransformerConfig:
    width, attention_heads = data.get("hidden_size", 1024), data.get("num_attention_heads", 8)
    return TransformerConfig(
        hidden_size=width,
        intermediate_size=data.get("intermediate_size", 2752),
        num_hidden_layers=data.get("num_hidden_layers", 16),
        num_attention_heads=attention_heads,
        head_dim=width // attention_heads,
        rope_theta=data.get("rope_theta", 20000.0),
        rms_norm_eps=data.get("rms_norm_eps", 1e-5),
        max_positions=data.get("max_position_embeddings", 10000),
    )


def _write_tower(config: TransformerConfig) -> Json:
    if config.head_dim * config.num_attention_heads != config.hidden_size:
        raise CheckpointError("the perception_models layout needs head_dim = hidden_size / heads; convert to another")
    return {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.rms_norm_eps,
        "max_position_embeddings": config.max_positions,
    }


def _read_audio(data: Json) -> AudioConfig:
    codec_data = data.get("dac_vae_encoder") or {}
    return AudioConfig(
        CodecConfig(
            hidden_size=codec_data.get("encoder_hidden_size", 64),
            strides=tuple(codec_data.get("downsampling_ratios", (2, 8, 10, 12))),
            latent_dim=codec_data.get("codebook_dim", 128),
            sampling_rate=codec_data.get("sampling_rate", 48000),
        ),
        _read_tower(data["audio_transformer"]),
    )


def _write_audio(config: AudioConfig) -> Json:
    return {
        "dac_vae_encoder": {
            "encoder_hidden_size": config.codec.hidden_size,
            "downsampling_ratios": list(config.codec.strides),
            "decoder_hidden_size": 1536,
            "n_codebooks": 16,
            "codebook_size": config.codec.width,
            "codebook_dim": config.codec.latent_dim,
            "quantizer_dropout": 0,
            "sampling_rate": config.codec.sampling_rate,
        },
        "audio_transformer": _write_tower(config.transformer),
    }


def _read_frames(visual: Json) -> FrameEncoderConfig:
    if "pe_encoder_config" in visual:
        return FrameEncoderConfig.from_dict(visual["pe_encoder_config"])
    name = visual.get("pe_encoder", "PE-Core-L14-336")
    if name not in PE_CORE:
        raise CheckpointError(f"frame encoder {name!r} is not one of {', '.join(PE_CORE)}")
    return PE_CORE[name]


def _read_text(data: Json) -> TextConfig:
    text_data, used = data["text_model"], data.get("nth_text_layer", 22)
    if used is None or used > text_layers(data):
        raise CheckpointError(f"nth_text_layer is {used}: it must name one of the text model's layers")
    default = TextConfig()
    return TextConfig(
        vocab_size=text_data.get("vocab_size", default.vocab_size),
        hidden_size=text_data.get("hidden_size", default.hidden_size),
        intermediate_size=text_data.get("intermediate_size", default.intermediate_size),
        num_hidden_layers=used,
        num_attention_heads=text_data.get("num_attention_heads", default.num_attention_heads),
        global_attn_every_n_layers=text_data.get("global_attn_every_n_layers", 3),
        local_attention=text_data.get("local_attention", 128),
        global_rope_theta=text_data.get("global_rope_theta", 160000.0),
        local_rope_theta=text_data.get("local_rope_theta", 10000.0),
        pad_token_id=text_data.get("pad_token_id", default.pad_token_id),
        cls_token_id=text_data.get("cls_token_id", default.cls_token_id),
        sep_token_id=text_data.get("sep_token_id", default.sep_token_id),
        layer_norm_eps=text_data.get("norm_eps", text_data.get("layer_norm_eps", 1e-5)),
    )


def _write_text(config: TextConfig, layers: int) -> Json:
    data = config.to_dict()
    del data["max_length"]
    return {
        **data,
        "norm_eps": data.pop("layer_norm_eps"),
        "num_hidden_layers": layers,
        "model_type": "modernbert",
        "bos_token_id": config.cls_token_id,
        "eos_token_id": config.sep_token_id,
        "tie_word_embeddings": True,
    }


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
