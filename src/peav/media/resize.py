"""The frame resize the public models were trained with: a squash to a square, antialiased, on uint8."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BAND = 1 << 20  # pixels of a frame that are held in float32 at a time


def resize_frames(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Squash frames (N, H, W, 3) uint8 to (N, size, size, 3) uint8; the aspect ratio is not kept.

    Antialiased bilinear filtering in float32, rounded half to even and clamped: torchvision's resize of a uint8 image
    where it computes in float. One frame at a time, and rows are narrowed a band at a time before columns are
    shortened, which is the order of torch's filter too: float copies of a clip or of a large frame never exist.
    """
    import torch  # here, since who decodes sound alone should not wait for it

    if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"frames must be uint8 (N, H, W, 3), not {pixels.dtype} {pixels.shape}")
    if size < 1:
        raise ValueError(f"size={size} is no picture size: give a positive number of pixels")
    if pixels.shape[1:3] == (size, size):
        return pixels

    def squash(planes: torch.Tensor, height: int) -> torch.Tensor:
        return torch.nn.functional.interpolate(
            planes, size=(height, size), mode="bilinear", antialias=True, align_corners=False
        )

    out = np.empty((len(pixels), size, size, 3), np.uint8)
    height, width = pixels.shape[1:3]
    step = max(1, BAND // width)
    for source, target in zip(pixels, out, strict=True):
        narrow = torch.empty(1, 3, height, size, dtype=torch.float32, device="cpu")
        for top in range(0, height, step):
            band = torch.from_numpy(np.ascontiguousarray(source[top : top + step])).permute(2, 0, 1)[None]  # 1 3 h W
            planes = band.to(torch.float32, memory_format=torch.contiguous_format)
            narrow[:, :, top : top + step] = squash(planes, planes.shape[2])
        small = squash(narrow, size)
        target[:] = small[0].round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return out
