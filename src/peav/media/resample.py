"""Samples of any rate and number of channels to mono at one rate, by FFmpeg's own downmix and resampler."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from peav.errors import NonFiniteError, SampleRangeWarning, UndecodableError, UnsupportedInputError, ZeroLengthError

Waveform = NDArray[np.float32]

LARGEST = 2.0**31  # the largest integer sample read as a float; nothing meant as sound is larger
LOUDEST = 16  # times full scale (24 dB above it): float samples beyond were never scaled
FASTEST = 10_000_000  # hertz
BLOCK = 1 << 18  # samples resampled at once
_LAYOUTS = ("", "mono", "stereo", "3c", "4c", "5c", "6c", "7c", "8c")  # FFmpeg's, by the number of channels


def as_waveform(samples: Any, sampling_rate: int, target: int = 48000) -> Waveform:
    """Mono float32 (S,) at `target` Hz from an array or tensor of samples at `sampling_rate` Hz.

    `samples` is (S,) or (C, S), channels first, at most 8 of them; floats are taken as they are, integers are scaled
    to [-1, 1). Mixing and resampling as in `load_audio`. Raises `UnsupportedInputError`, `ZeroLengthError` or
    `NonFiniteError`.
    """
    resampler, planes = Resampler(sampling_rate, target), _planes(samples)
    parts = [resampler.push(planes[:, at : at + BLOCK]) for at in range(0, planes.shape[1], BLOCK)]
    return np.concatenate([*parts, resampler.finish()])


class Resampler:
    """Samples block by block to mono at another rate: what it gives, joined, equals `as_waveform` of the whole.

    A rate that stays the same delays nothing; else some 64 samples of the lower rate are held back. Raises
    `UnsupportedInputError` for a rate that is none.
    """

    def __init__(self, sampling_rate: int, target: int = 48000) -> None:
        for rate in (sampling_rate, target):
            if not isinstance(rate, int | float | np.number) or not (1 <= rate <= FASTEST and rate == int(rate)):
                raise UnsupportedInputError(f"sampling_rate={rate} is no sampling rate: give a whole number of hertz")
        self.rate, self.target = int(sampling_rate), int(target)
        self._mixer: Mixer | None = None
        self._channels = 0

    def push(self, samples: Any) -> Waveform:
        """(S,) or (C, S) of any number of samples, at least one; returns what is ready. Errors as `as_waveform`, and
        `UnsupportedInputError` where the number of channels changes.
        """
        planes = _planes(samples)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), format="fltp", layout=_LAYOUTS[len(planes)])
        frame.sample_rate = self.rate
        if self._mixer is None:
            self._mixer, self._channels = Mixer(frame, self.target, "the samples"), len(planes)
        if len(planes) != self._channels:
            raise UnsupportedInputError(f"{len(planes)} channels after {self._channels}; start a new stream for them")
        return self._mixer.feed(frame)

    def finish(self) -> Waveform:
        """What was held back."""
        return np.empty(0, np.float32) if self._mixer is None else self._mixer.flush()


def _planes(samples: Any) -> NDArray[np.float32]:
    """(C, S) float32 from what a user may pass as samples."""
    if hasattr(samples, "detach"):  # a tensor of any device and dtype, bfloat16 among them
        tensor = samples.detach().cpu()
        samples = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    array = np.asarray(samples)
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiu":
        raise UnsupportedInputError(
            f"samples of dtype {array.dtype} and shape {array.shape} are no audio: give real numbers, (S,) or (C, S)"
        )
    if array.dtype.kind != "f" and array.itemsize > 4:  # Python's own integers, whose full scale nobody knows
        raise UnsupportedInputError(
            f"samples of dtype {array.dtype} have no full scale: give int16 or int32 as recorded, or floats to 1"
        )
    planes = array[None] if array.ndim == 1 else array
    if planes.size == 0:
        raise ZeroLengthError(f"samples of shape {array.shape} are empty: give at least one sample")
    if len(planes) > 8:
        raise UnsupportedInputError(
            f"samples of shape {array.shape} have {len(planes)} channels: give (C, S) with at most 8, channels first"
        )
    if planes.dtype.kind == "u":
        planes = planes.astype(np.float64) / 2.0 ** (8 * array.itemsize - 1) - 1.0
    elif planes.dtype.kind == "i":
        planes = planes / 2.0 ** (8 * array.itemsize - 1)
    planes = np.ascontiguousarray(planes, np.float32)
    check_finite(planes, "the samples")
    if array.dtype.kind == "f" and max(planes.max(), -planes.min()) > LOUDEST:
        warnings.warn(
            f"float samples beyond {LOUDEST}, where full scale is 1: divide what was 16-bit by 32768, or give int16",
            SampleRangeWarning,
            stacklevel=1,  # one place, whoever calls: Python says it once
        )
    return planes


def check_finite(samples: NDArray[np.float32], name: str) -> None:
    """Raise `NonFiniteError` where samples are NaN, infinite, or so large that a network makes infinity of them."""
    loudest = float(np.abs(samples).max(initial=0.0))  # NaN where there is one
    if loudest <= LARGEST:
        return
    bad = int(np.count_nonzero(~np.isfinite(samples)))
    wrong = f"{bad} samples are NaN or infinite" if bad else f"samples reach {loudest:.3g}, where 1 is full scale"
    raise NonFiniteError(f"{name}: {wrong}; repair or re-export the audio")


def rescale(samples: int, rate: int, target: int) -> int:
    """`samples` at `rate` in samples at `target`, rounded half up."""
    return (2 * samples * target + rate) // (2 * rate)


class Mixer:
    """FFmpeg's downmix and then its resampler, for consecutive frames of one format; what goes in comes out as long.

    In two steps, so that silence can be put in between: layouts of channels exist for which no frame can be made.
    """

    def __init__(self, frame: Any, target: int, name: str) -> None:
        self.rate, self.format, self.layout = frame.sample_rate, frame.format.name, frame.layout.name
        self.target, self.name = target, name
        self.downmix = av.AudioResampler(format="fltp", layout="mono", rate=self.rate)
        self.resampler = av.AudioResampler(format="fltp", layout="mono", rate=target)
        self.taken = self.given = 0

    def fits(self, frame: Any) -> bool:
        """Whether a frame has the format of those before."""
        return (frame.sample_rate, frame.format.name, frame.layout.name) == (self.rate, self.format, self.layout)

    def feed(self, frame: Any, drop: int = 0) -> Waveform:
        """Mix a frame in, but for its first `drop` samples."""
        if not frame.samples:
            return np.empty(0, np.float32)
        frame.pts = None  # frames are joined here; holes are filled where they are told of
        try:
            mono = [part.to_ndarray() for part in self.downmix.resample(frame)]
        except (av.FFmpegError, ValueError) as error:
            raise UndecodableError(
                f"{self.name}: its channels ({self.layout}) cannot be mixed; convert it to stereo first"
            ) from error
        return self._resampled(np.concatenate(mono, axis=1)[:, drop:].astype(np.float32, copy=False))

    def silence(self, samples: int) -> Iterator[Waveform]:
        """Put in so many zeros, counted at the frames' own rate."""
        for at in range(0, samples, BLOCK):
            yield self._resampled(np.zeros((1, min(BLOCK, samples - at)), np.float32))

    def flush(self) -> Waveform:
        """What the filters still hold."""
        # As long as FFmpeg's command makes it, which rounds up.
        length, before = -(-self.taken * self.target // self.rate), self.given
        filter = 64 * max(1, self.rate // self.target)  # for less than its length it would give nothing
        padding = self.silence(filter if self.taken < filter else 0)
        return np.concatenate([*padding, self._run(None)])[: max(0, length - before)]

    def _resampled(self, mono: Waveform) -> Waveform:
        if not mono.size:
            return mono[0]
        frame = av.AudioFrame.from_ndarray(mono, format="fltp", layout="mono")
        frame.sample_rate = self.rate
        self.taken += mono.shape[1]
        return self._run(frame)

    def _run(self, frame: Any | None) -> Waveform:
        parts = [part.to_ndarray()[0] for part in self.resampler.resample(frame)]
        self.given += sum(map(len, parts))
        return np.concatenate(parts) if parts else np.empty(0, np.float32)
