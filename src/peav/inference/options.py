"""The keywords that every method of `Encoder` that embeds media takes."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Literal, Required, TypedDict


class TextOptions(TypedDict, total=False):
    """Keywords of `Encoder.encode_text`, but for `convert_to_numpy`; see `Options`."""

    batch_size: int
    normalize: bool
    show_progress: bool


class _Shared(TextOptions, total=False):
    sampling_rate: int | None
    window: float | None


class Options(_Shared, total=False):
    """Keywords of `Encoder.encode`, `encode_audio`, `encode_video`, `encode_audio_video`, `stream` and the like.

    sampling_rate: of waveforms, in Hz (None).
    batch_size: windows per forward pass (8).
    window: seconds per window (30.0); None takes each input whole, up to what the towers take (400 s of sound).
    normalize: scale every embedding to unit length (False).
    show_progress: a progress bar on stderr, or in a log a line every 30 s (False).
    convert_to_numpy: numpy arrays (True); else tensors on the model's device.
    """

    convert_to_numpy: Literal[True]


class TensorOptions(_Shared, total=False):
    """`Options` of a call that gives tensors."""

    convert_to_numpy: Required[Literal[False]]


def check_options(method: str, options: Any) -> dict[str, Any]:
    """The options with their defaults, but for `convert_to_numpy`.

    Raises:
        TypeError: an unknown keyword; it names the method, and the keyword that was meant or all there are.
    """
    known = list(Options.__annotations__)
    if unknown := sorted(options.keys() - set(known)):
        meant = get_close_matches(unknown[0], known, n=1)
        fix = f". Did you mean {meant[0]!r}?" if meant else f"; it takes {', '.join(known)}"
        raise TypeError(f"Encoder.{method}() got an unexpected keyword argument {unknown[0]!r}{fix}")
    defaults = {"sampling_rate": None, "batch_size": 8, "window": 30.0, "normalize": False, "show_progress": False}
    return defaults | {name: value for name, value in options.items() if name != "convert_to_numpy"}
