"""peav: audio, video and text in one embedding space (PE-AV, arXiv 2512.19687).

>>> import peav
>>> model = peav.load("tiny")
>>> clips = model.encode_audio_video(["dog.mp4", "train.mp4"])
>>> peav.similarity(model.encode_text("a dog barking"), clips)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

    import torch

    from peav.detector import Detector
    from peav.encoder import Encoder

__version__ = "0.1.0"
__all__ = ["Detector", "Encoder", "load", "similarity"]


def __getattr__(name: str) -> Any:
    """`Encoder` and `Detector`, imported when they are first asked for, so that `import peav` stays light."""
    if name == "Encoder":
        from peav.encoder import Encoder

        return Encoder
    if name == "Detector":
        from peav.detector import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(
    name: str | os.PathLike[str] = "tiny",
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Encoder:
    """Load a PE-AV model for inference.

    Args:
        name: `tiny` (shipped, offline), a hub name such as `facebook/pe-av-large`, or a directory in any of the three
            layouts (ours, perception_models, transformers).
        device: where to put it; None: the first GPU if there is one, else the CPU.
        dtype: of weights and computation, such as `"bfloat16"`; None: float32, which equals the original implementation
            to 2e-5.
        revision: branch, tag or commit on the hub; `facebook/pe-av-large@REVISION` says the same in the name.
        cache_dir: where downloads are kept; None: the hub's own cache.

    Raises:
        CheckpointError: nothing there, an unreachable hub, a missing or unknown tensor, a PE-A-Frame checkpoint.
    """
    from peav.encoder import Encoder

    return Encoder.from_pretrained(name, device=device, dtype=dtype, revision=revision, cache_dir=cache_dir)


def similarity(a: Any, b: Any) -> Any:
    """Dot products of two sets of embeddings, (n, D) x (m, D) -> (n, m); numpy arrays or tensors.

    A single embedding (D,) on either side drops its axis.

    Raises:
        ValueError: different widths.
    """
    from peav.encoder import similarity as dot_products

    return dot_products(a, b)
