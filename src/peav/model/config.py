"""What a model looks like: frozen dataclasses with bounds on every field, and the presets that name the official sizes.

The bounds lie well beyond every published model. They keep a damaged or hostile config.json from building for hours,
from dividing by zero, and from giving embeddings that are not finite.
"""

from __future__ import annotations

from dataclasses import asdict, field
from math import prod
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

Width = Annotated[int, Field(strict=True, ge=1, le=2**16)]  # channels
Layers = Annotated[int, Field(strict=True, ge=1, le=256)]
Heads = Annotated[int, Field(strict=True, ge=1, le=1024)]
HeadDim = Annotated[int, Field(strict=True, ge=2, le=4096, multiple_of=2)]  # rotary positions turn pairs of channels
Stride = Annotated[int, Field(strict=True, ge=2, le=128, multiple_of=2)]  # with an odd one lengths would not divide
Strides = Annotated[tuple[Stride, ...], Field(min_length=1, max_length=8)]
SamplingRate = Annotated[int, Field(strict=True, ge=1000, le=768_000)]
Pixels = Annotated[int, Field(strict=True, ge=1, le=4096)]
Frames = Annotated[int, Field(strict=True, ge=1, le=1024)]
Positions = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Tokens = Annotated[int, Field(strict=True, ge=2, le=2**16)]  # of a text: CLS and SEP at least
VocabSize = Annotated[int, Field(strict=True, ge=1, le=2**24)]
TokenId = Annotated[int, Field(strict=True, ge=0, lt=2**24)]
Theta = Annotated[float, Field(strict=True, gt=0, le=1e12, allow_inf_nan=False)]
Epsilon = Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)]
Ratio = Annotated[float, Field(strict=True, gt=0, le=64, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]

_FIELDS = ConfigDict(extra="forbid")


class _Config:
    """Nested plain-dict serialization shared by every config."""

    def to_dict(self) -> dict[str, Any]:
        """The config as nested plain dicts, ready for JSON."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild a config from `to_dict`'s output.

        Raises pydantic's ValidationError, a ValueError, naming every field that is unknown or out of its bounds.
        """
        return TypeAdapter(cls).validate_python(data)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, config=_FIELDS)
class TransformerConfig(_Config):
    """One temporal tower: pre-norm layers with QK-norm, interleaved RoPE and SwiGLU over `hidden_size` channels."""

    hidden_size: Width
    intermediate_size: Width
    num_hidden_layers: Layers
    num_attention_heads: Heads
    head_dim: HeadDim = 128
    rope_theta: Theta = 20000.0
    rms_norm_eps: Epsilon = 1e-5
    max_positions: Positions = 10000

    @property
    def max_steps(self) -> int:
        """Most steps of one input: the CLS takes a position, too."""
        return self.max_positions - 1


@dataclass(frozen=True, config=_FIELDS)
class CodecConfig(_Config):
    """The DAC-VAE encoder: audio at `sampling_rate` Hz to latents `latent_dim` wide, one per `hop_length` samples."""

    hidden_size: Width = 64
    strides: Strides = (2, 8, 10, 12)
    latent_dim: Width = 128
    sampling_rate: SamplingRate = 48000

    def __post_init__(self) -> None:
        _require(self.hop_length <= self.sampling_rate, "the product of the strides must be at most sampling_rate")
        _require(self.width <= 2**16, "hidden_size must be at most 65536 after it is doubled once per stride")

    @property
    def hop_length(self) -> int:
        """Samples per latent step (1920 at the official strides: 25 steps a second)."""
        return prod(self.strides)

    @property
    def width(self) -> int:
        """Channels after the last stage: every stage doubles them."""
        return self.hidden_size * 2 ** len(self.strides)


@dataclass(frozen=True, config=_FIELDS)
class FrameEncoderConfig(_Config):
    """A PE-Core vision transformer; the defaults are PE-Core-L14-336 (arXiv 2504.13181)."""

    image_size: Pixels = 336
    patch_size: Pixels = 14
    width: Width = 1024
    num_layers: Layers = 24
    num_heads: Heads = 16
    mlp_ratio: Ratio = 4.0
    output_dim: Width = 1024
    pool_heads: Heads = 8
    use_cls_token: Flag = True

    def __post_init__(self) -> None:
        _require(self.image_size % self.patch_size == 0, "image_size must be a multiple of patch_size")
        _require(self.width % self.num_heads == 0, "width must be a multiple of num_heads")
        _require(self.width % self.pool_heads == 0, "width must be a multiple of pool_heads")
        _require(self.width // self.num_heads % 4 == 0, "2-D rotary positions need a head width that divides by 4")
        _require(self.mlp_width >= 1, "mlp_ratio must leave the MLP a channel")

    @property
    def mlp_width(self) -> int:
        """Hidden width of the blocks' MLPs; the pooling's is 4 widths, whatever `mlp_ratio`."""
        return int(self.width * self.mlp_ratio)

    @property
    def grid(self) -> int:
        """Patches along each side at the native image size."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, config=_FIELDS)
class TextConfig(_Config):
    """ModernBERT (arXiv 2412.13663) cut after `num_hidden_layers` layers; the defaults are the official text tower."""

    vocab_size: VocabSize = 50368
    hidden_size: Width = 1024
    intermediate_size: Width = 2624
    num_hidden_layers: Layers = 22  # of ModernBERT-large's 28: PE-AV reads no further
    num_attention_heads: Heads = 16
    global_attn_every_n_layers: Layers = 3
    local_attention: Positions = 128
    global_rope_theta: Theta = 160000.0
    local_rope_theta: Theta = 10000.0
    pad_token_id: TokenId = 50283
    cls_token_id: TokenId = 50281
    sep_token_id: TokenId = 50282
    max_length: Tokens = 512
    layer_norm_eps: Epsilon = 1e-5

    def __post_init__(self) -> None:
        _require(
            self.hidden_size % (2 * self.num_attention_heads) == 0,
            "text hidden_size must divide by num_attention_heads into an even width",
        )
        ids = max(self.pad_token_id, self.cls_token_id, self.sep_token_id)
        _require(
            ids < self.vocab_size, f"pad_token_id, cls_token_id and sep_token_id must be below vocab_size, not {ids}"
        )

    def is_global(self, layer: int) -> bool:
        """Whether this layer attends to every token (otherwise to `local_attention // 2` on each side)."""
        return layer % self.global_attn_every_n_layers == 0


@dataclass(frozen=True, config=_FIELDS)
class AudioConfig(_Config):
    """Codec, then a temporal tower over its latents."""

    codec: CodecConfig
    transformer: TransformerConfig


@dataclass(frozen=True, config=_FIELDS)
class VideoConfig(_Config):
    """Frame encoder, then a temporal tower. `num_frames`: frames evenly over a clip; None takes every frame."""

    frame_encoder: FrameEncoderConfig
    transformer: TransformerConfig
    num_frames: Frames | None = None


@dataclass(frozen=True, config=_FIELDS)
class PEAVConfig(_Config):
    """The whole PE-AV model (arXiv 2512.19687)."""

    audio: AudioConfig
    video: VideoConfig
    fusion: TransformerConfig
    text: TextConfig = field(default_factory=TextConfig)
    output_dim: Width = 1024


@dataclass(frozen=True, config=_FIELDS)
class PEAFrameConfig(_Config):
    """PE-A-Frame: frame-level audio against text."""

    audio: AudioConfig
    text: TextConfig = field(default_factory=TextConfig)
    output_dim: Width = 1024


# Width 64 x layers; the MLP is 8/3 of the width, rounded up to a multiple of 64.
_OFFICIAL = {"small": (768, 2048, 12), "base": (1024, 2752, 16), "large": (1792, 4800, 28)}


def _tower(size: str, layers: int | None = None) -> TransformerConfig:
    if size == "nano":
        return TransformerConfig(64, 128, layers or 2, 1, head_dim=64)
    if size == "tiny":
        return TransformerConfig(256, 640, layers or 4, 4, head_dim=64)
    width, mlp, depth = _OFFICIAL[size]
    return TransformerConfig(width, mlp, layers or depth, width // 128)


def _small_text(width: int, mlp: int, layers: int) -> TextConfig:
    return TextConfig(2048, width, mlp, layers, width // 64, pad_token_id=0, cls_token_id=1, sep_token_id=2)


def _tiny() -> PEAVConfig:
    frames = FrameEncoderConfig(64, 8, 128, 4, 2, output_dim=128)
    return PEAVConfig(
        audio=AudioConfig(CodecConfig(hidden_size=8), _tower("tiny")),
        video=VideoConfig(frames, _tower("tiny", 2), num_frames=8),
        fusion=_tower("tiny", 1),
        text=_small_text(256, 384, 3),
        output_dim=256,
    )


def _nano() -> PEAVConfig:
    """Too small to learn much: for tests of whole runs."""
    frames = FrameEncoderConfig(32, 8, 64, 1, 1, output_dim=64)
    return PEAVConfig(
        audio=AudioConfig(CodecConfig(hidden_size=2), _tower("nano")),
        video=VideoConfig(frames, _tower("nano", 1), num_frames=4),
        fusion=_tower("nano", 1),
        text=_small_text(64, 96, 2),
        output_dim=64,
    )


def _official(size: str, num_frames: int | None) -> PEAVConfig:
    return PEAVConfig(
        # Only the audio tower grows in depth.
        audio=AudioConfig(CodecConfig(), _tower(size)),
        video=VideoConfig(FrameEncoderConfig(), _tower(size, 4), num_frames),
        fusion=_tower(size, 6),
    )


def _presets() -> dict[str, PEAVConfig | PEAFrameConfig]:
    presets: dict[str, PEAVConfig | PEAFrameConfig] = {}
    for name, config in (("nano", _nano()), ("tiny", _tiny())):
        presets[name] = config
        presets[f"frame-{name}"] = PEAFrameConfig(config.audio, config.text, config.output_dim)
    for size in _OFFICIAL:
        presets[size] = _official(size, None)
        presets[f"{size}-16-frame"] = _official(size, 16)
        presets[f"frame-{size}"] = PEAFrameConfig(AudioConfig(CodecConfig(), _tower(size)))
    return presets


DEFAULT_NUM_FRAMES = 16
"""So many frames of a clip train models, and are told of, that otherwise take all."""
PRESETS = tuple(_presets())


def preset(name: str) -> PEAVConfig | PEAFrameConfig:
    """The config of a named size: tiny, small, base, large, `<size>-16-frame`, or `frame-<size>` for PE-A-Frame.

    Raises ValueError listing the names when `name` is none of them.
    """
    presets = _presets()
    if name not in presets:
        raise ValueError(f"no preset {name!r}; choose one of {', '.join(presets)}")
    return presets[name]
