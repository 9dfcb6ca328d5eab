"""peav: audio, video and text in one embedding space (PE-AV, arXiv 2512.19687).

>>> import peav
>>> model = peav.load("tiny")
>>> clips = model.encode_audio_video(["dog.mp4", "train.mp4"])
>>> peav.similarity(model.encode_text("a dog barking"), clips)
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

    import torch

    from peav.captioner import Captioner
    from peav.detector import Detector
    from peav.encoder import Encoder, similarity

__version__ = "0.1.0"
__all__ = ["Captioner", "Detector", "Encoder", "load", "similarity"]

# What happened and was dealt with is said by loggers `peav.MODULE`: a program that uses peav decides who hears it.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """The public names but `load`, imported when they are first asked for, so that `import peav` stays light."""
    homes = {
        "Encoder": "peav.encoder",
        "similarity": "peav.encoder",
        "Detector": "peav.detector",
        "Captioner": "peav.captioner",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(homes[name]), name)


def __dir__() -> list[str]:
    """The public names: not what this module imports for itself."""
    return [*__all__, "__version__"]


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
