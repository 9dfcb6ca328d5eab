"""The published PE-Core frame encoders (arXiv 2504.13181), by the names that checkpoints use for them."""

from __future__ import annotations

from peav.model import FrameEncoderConfig

PE_CORE = {
    "PE-Core-G14-448": FrameEncoderConfig(448, 14, 1536, 50, 16, 8960 / 1536, 1280, use_cls_token=False),
    "PE-Core-L14-336": FrameEncoderConfig(336, 14, 1024, 24, 16, 4.0, 1024),
    "PE-Core-B16-224": FrameEncoderConfig(224, 16, 768, 12, 12, 4.0, 1024),
    "PE-Core-S16-384": FrameEncoderConfig(384, 16, 384, 12, 6, 4.0, 512),
    "PE-Core-T16-384": FrameEncoderConfig(384, 16, 192, 12, 3, 4.0, 512),
}
_SIZES = {"G": "gigantic", "L": "large", "B": "base", "S": "small", "T": "tiny"}


def timm_name(name: str) -> str:
    """`PE-Core-L14-336` as timm calls it: `vit_pe_core_large_patch14_336`."""
    _, _, size, image = name.split("-")
    return f"vit_pe_core_{_SIZES[size[0]]}_patch{size[1:]}_{image}"


TIMM = {timm_name(name): config for name, config in PE_CORE.items()}


def find_name(config: FrameEncoderConfig) -> str | None:
    """The published name of a frame encoder, None when it is one of our own sizes."""
    return next((name for name, known in PE_CORE.items() if known == config), None)
