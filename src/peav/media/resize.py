"""The frame resize the public models were trained with: a squash to a square, antialiased, on uint8."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def resize_frames(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Squash frames (N, H, W, 3) uint8 to (N, size, size, 3) uint8; the aspect ratio is not kept.

    Antialiased bilinear filtering in float32, rounded half to even and clamped: torchvision's resize of a uint8 image
    where it computes in float. One frame at a time, so that float copies of a whole clip never exist.
    """
    import torch  # here, since who decodes sound alone should not wait for it

    if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"frames must be uint8 (N, H, W, 3), not {pixels.dtype} {pixels.shape}")
    if size < 1:
        raise ValueError(f"size={size} is no picture size: give a positive number of pixels")
    if pixels.shape[1:3] == (size, size):
        return pixels
    out = np.empty((len(pixels), size, size, 3), np.uint8)
    for source, target in zip(pixels, out, strict=True):
        planes = torch.from_numpy(np.ascontiguousarray(source)).permute(2, 0, 1)[None]  # 1 3 H W
        planes = planes.to(torch.float32, memory_format=torch.contiguous_format)
        small = torch.nn.functional.interpolate(
            planes, size=(size, size), mode="bilinear", antialias=True, align_corners=False
        )
        target[:] = small[0].round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return out
