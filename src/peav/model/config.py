"""What a model looks like: frozen, validated dataclasses, and the presets that name the official sizes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from math import prod
from typing import Any, Self, get_type_hints


class _Config:
    """Nested plain-dict serialisation shared by every config."""

    def to_dict(self) -> dict[str, Any]:
        """The config as nested plain dicts, ready for JSON."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild a config from `to_dict`'s output. Raises ValueError naming any unknown field."""
        hints = get_type_hints(cls)
        unknown = sorted(set(data) - {f.name for f in fields(cls)})  # type: ignore[arg-type]
        if unknown:
            raise ValueError(f"{cls.__name__} has no field {', '.join(unknown)}; known: {', '.join(hints)}")
        return cls(**{name: _restore(hints[name], value) for name, value in data.items()})


def _restore(hint: Any, value: Any) -> Any:
    if is_dataclass(hint) and isinstance(value, dict):
        assert isinstance(hint, type)
        assert issubclass(hint, _Config)
        return hint.from_dict(value)
    return tuple(value) if isinstance(value, list) else value


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class TransformerConfig(_Config):
    """One temporal tower: pre-norm layers with QK-norm, interleaved RoPE and SwiGLU over `hidden_size` channels."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    head_dim: int = 128
    rope_theta: float = 20000.0
    rms_norm_eps: float = 1e-5
    max_positions: int = 10000

    def __post_init__(self) -> None:
        _require(self.head_dim % 2 == 0, f"head_dim must be even for rotary positions, got {self.head_dim}")
        _require(min(self.hidden_size, self.intermediate_size, self.num_attention_heads) > 0, "sizes must be positive")


@dataclass(frozen=True)
class CodecConfig(_Config):
    """The DAC-VAE encoder: audio at `sampling_rate` Hz to latents `latent_dim` wide, one per `hop_length` samples."""

    hidden_size: int = 64
    strides: tuple[int, ...] = (2, 8, 10, 12)
    latent_dim: int = 128
    sampling_rate: int = 48000

    def __post_init__(self) -> None:
        # With an odd stride, kernel 2s and padding ceil(s / 2) lengths would no longer divide exactly.
        _require(all(s % 2 == 0 for s in self.strides), f"codec strides must be even, got {self.strides}")

    @property
    def hop_length(self) -> int:
        """Samples per latent step (1920 at the official strides: 25 steps a second)."""
        return prod(self.strides)

    @property
    def width(self) -> int:
        """Channels after the last stage: every stage doubles them."""
        return self.hidden_size * 2 ** len(self.strides)


@dataclass(frozen=True)
class FrameEncoderConfig(_Config):
    """A PE-Core vision transformer; the defaults are PE-Core-L14-336 (arXiv 2504.13181)."""

    image_size: int = 336
    patch_size: int = 14
    width: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4.0
    output_dim: int = 1024
    pool_heads: int = 8
    use_cls_token: bool = True

    def __post_init__(self) -> None:
        _require(self.image_size % self.patch_size == 0, "image_size must be a multiple of patch_size")
        _require(self.width % self.num_heads == 0, "width must be a multiple of num_heads")
        _require(self.width % self.pool_heads == 0, "width must be a multiple of pool_heads")
        _require(self.width // self.num_heads % 4 == 0, "2-D rotary positions need a head width that divides by 4")

    @property
    def mlp_width(self) -> int:
        """Hidden width of every MLP, pooling included."""
        return int(self.width * self.mlp_ratio)

    @property
    def grid(self) -> int:
        """Patches along each side at the native image size."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class TextConfig(_Config):
    """ModernBERT (arXiv 2412.13663) cut after `num_hidden_layers` layers; the defaults are the official text tower."""

    vocab_size: int = 50368
    hidden_size: int = 1024
    intermediate_size: int = 2624
    num_hidden_layers: int = 22
    num_attention_heads: int = 16
    global_attn_every_n_layers: int = 3
    local_attention: int = 128
    global_rope_theta: float = 160000.0
    local_rope_theta: float = 10000.0
    pad_token_id: int = 50283
    cls_token_id: int = 50281
    sep_token_id: int = 50282
    max_length: int = 512
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        _require(self.hidden_size % self.num_attention_heads == 0, "text hidden_size must divide by the heads")

    def is_global(self, layer: int) -> bool:
        """Whether this layer attends to every token (otherwise to `local_attention // 2` on each side)."""
        return layer % self.global_attn_every_n_layers == 0


@dataclass(frozen=True)
class AudioConfig(_Config):
    """Codec, then a temporal tower over its latents."""

    codec: CodecConfig
    transformer: TransformerConfig


@dataclass(frozen=True)
class VideoConfig(_Config):
    """Frame encoder, then a temporal tower. `num_frames`: frames evenly over a clip; None takes every frame."""

    frame_encoder: FrameEncoderConfig
    transformer: TransformerConfig
    num_frames: int | None = None


@dataclass(frozen=True)
class PEAVConfig(_Config):
    """The whole PE-AV model (arXiv 2512.19687)."""

    audio: AudioConfig
    video: VideoConfig
    fusion: TransformerConfig
    text: TextConfig = field(default_factory=TextConfig)
    output_dim: int = 1024


@dataclass(frozen=True)
class PEAFrameConfig(_Config):
    """PE-A-Frame: frame-level audio against text."""

    audio: AudioConfig
    text: TextConfig = field(default_factory=TextConfig)
    output_dim: int = 1024


# Width 64 x layers; the MLP is 8/3 of the width, rounded up to a multiple of 64.
_OFFICIAL = {"small": (768, 2048, 12), "base": (1024, 2752, 16), "large": (1792, 4800, 28)}
_TINY_TEXT = TextConfig(
    vocab_size=2048,
    hidden_size=256,
    intermediate_size=384,
    num_hidden_layers=3,
    num_attention_heads=4,
    pad_token_id=0,
    cls_token_id=1,
    sep_token_id=2,
)


def _tower(size: str, layers: int | None = None) -> TransformerConfig:
    if size == "tiny":
        return TransformerConfig(256, 640, layers or 4, 4, head_dim=64)
    width, mlp, depth = _OFFICIAL[size]
    return TransformerConfig(width, mlp, layers or depth, width // 128)


def _tiny() -> PEAVConfig:
    frames = FrameEncoderConfig(64, 8, 128, 4, 2, output_dim=128)
    return PEAVConfig(
        audio=AudioConfig(CodecConfig(hidden_size=8), _tower("tiny")),
        video=VideoConfig(frames, _tower("tiny", 2), num_frames=8),
        fusion=_tower("tiny", 1),
        text=_TINY_TEXT,
        output_dim=256,
    )


def _official(size: str, num_frames: int | None) -> PEAVConfig:
    return PEAVConfig(
        audio=AudioConfig(CodecConfig(), _tower(size)),
        video=VideoConfig(FrameEncoderConfig(), _tower(size, 4), num_frames),
        fusion=_tower(size, 6),
    )


def _presets() -> dict[str, PEAVConfig | PEAFrameConfig]:
    tiny = _tiny()
    presets: dict[str, PEAVConfig | PEAFrameConfig] = {
        "tiny": tiny,
        "frame-tiny": PEAFrameConfig(tiny.audio, tiny.text, tiny.output_dim),
    }
    for size in _OFFICIAL:
        presets[size] = _official(size, None)
        presets[f"{size}-16-frame"] = _official(size, 16)
        presets[f"frame-{size}"] = PEAFrameConfig(AudioConfig(CodecConfig(), _tower(size)))
    return presets


PRESETS = tuple(_presets())


def preset(name: str) -> PEAVConfig | PEAFrameConfig:
    """The config of a named size: tiny, small, base, large, `<size>-16-frame`, or `frame-<size>` for PE-A-Frame.

    Raises ValueError listing the names when `name` is none of them.
    """
    presets = _presets()
    if name not in presets:
        raise ValueError(f"no preset {name!r}; choose one of {', '.join(presets)}")
    return presets[name]
