"""Any audio to mono float32 at one rate: FFmpeg's own decoders, downmix and resampler, one pass, bounded memory.

The timeline of a file starts where the file starts. Holes in its timestamps become silence, so that a time in a
result is a time in a player; sound that starts late, as it can beside video, is preceded by silence too.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from peav.media.errors import NonFiniteError, UndecodableError, UnsupportedInputError, WindowError, ZeroLengthError
from peav.media.source import (
    HOLE,
    Decoder,
    Source,
    audio_stream,
    name_of,
    open_media,
    start_of,
)
from peav.media.truncation import promised_end, warn_if_truncated
from peav.media.windows import SHORTEST_TAIL, Window, check_length, check_window

Waveform = NDArray[np.float32]

LONGEST_HOLE = 3600.0  # seconds: a larger jump of the timestamps is damage, not a pause
_LAYOUTS = ("", "mono", "stereo", "3c", "4c", "5c", "6c", "7c", "8c")
PREROLL = 2.0  # seconds decoded before the asked start, so that decoder and resampler have settled by then
SEEK_FROM = 4.0  # seconds: seeking pays from here on


def load_audio(source: Source, *, start: float = 0.0, end: float | None = None, sampling_rate: int = 48000) -> Waveform:
    """Decode `[start, end)` seconds of the audio in `source` to mono float32 (S,) at `sampling_rate`.

    Channels are mixed and the rate changed by FFmpeg with its defaults, as the public models' inputs were; two equal
    channels therefore come out 3 dB louder and may pass 1.0. An `end` past the end of the file is cropped to it.
    A part equals the same slice of the whole: exactly for PCM and lossless codecs, closely for lossy ones, and
    within a millisecond of place where the container rounds its timestamps (Matroska, WebM).

    Raises a `MediaError` that names the file; warns with a `MediaWarning` where it is truncated or damaged.
    """
    window = check_window(start, end)
    for _, waveform in iter_audio(source, [window], sampling_rate=sampling_rate):
        return waveform
    raise WindowError(f"{name_of(source)}: start={start} is past the end of its audio; give an earlier start")


def iter_audio(
    source: Source, windows: float | Sequence[Window] = 30.0, *, sampling_rate: int = 48000
) -> Iterator[tuple[Window, Waveform]]:
    """Yield `(window, waveform)` for windows of a file in one pass; memory holds one window, not the file.

    `windows` is a length in seconds, to cut the whole file as `windows()` does, or a list sorted by start. A yielded
    window ends where its samples end; windows past the end of the audio are left out. Errors as `load_audio`.
    """
    if not isinstance(windows, Sequence):
        check_length(windows)
    elif not windows:
        return
    yield from _cut(_Reader(source, sampling_rate), windows)


def as_waveform(samples: Any, sampling_rate: int, target: int = 48000) -> Waveform:
    """Mono float32 (S,) at `target` Hz from an array or tensor of samples at `sampling_rate` Hz.

    `samples` is (S,) or (C, S), channels first, at most 8 of them; floats are taken as they are, integers are scaled
    to [-1, 1). Mixing and resampling as in `load_audio`. Raises `UnsupportedInputError`, `ZeroLengthError` or
    `NonFiniteError`.
    """
    planes = _planes(samples)
    for rate in (sampling_rate, target):
        if not isinstance(rate, int | float | np.number) or not (1 <= rate <= 10_000_000 and rate == int(rate)):
            raise UnsupportedInputError(f"sampling_rate={rate} is no sampling rate: give a whole number of hertz")
    mix: _Downmix | None = None
    resample = _Resample(int(sampling_rate), int(target))
    parts = []
    for at in range(0, planes.shape[1], 1 << 20):
        block = np.ascontiguousarray(planes[:, at : at + (1 << 20)])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=_LAYOUTS[len(planes)])
        frame.sample_rate = int(sampling_rate)
        mix = mix or _Downmix(frame, "the samples")
        parts.append(resample.feed(mix.feed(frame)))
    return np.concatenate([*parts, resample.flush()])


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
    _check_finite(planes, "the samples")
    return planes


def _check_finite(samples: NDArray[np.float32], name: str) -> None:
    if not np.isfinite(samples).all():
        bad = int(np.count_nonzero(~np.isfinite(samples)))
        raise NonFiniteError(f"{name}: {bad} samples are NaN or infinite; repair or re-export the audio")


def _steps(total: int, step: int) -> Iterator[int]:
    """`total` in parts of at most `step`."""
    for at in range(0, total, step):
        yield min(step, total - at)


def _rescale(samples: int, rate: int, target: int) -> int:
    """`samples` at `rate` in samples at `target`, rounded half up."""
    return (2 * samples * target + rate) // (2 * rate)


class _Downmix:
    """FFmpeg's downmix of frames of one format to mono float32 at their own rate."""

    def __init__(self, frame: Any, name: str) -> None:
        self.rate, self.format, self.layout = frame.sample_rate, frame.format.name, frame.layout.name
        self.name = name
        self.resampler = av.AudioResampler(format="fltp", layout="mono", rate=self.rate)

    def fits(self, frame: Any) -> bool:
        return bool(
            frame.sample_rate == self.rate and frame.format.name == self.format and frame.layout.name == self.layout
        )

    def feed(self, frame: Any) -> Waveform:
        frame.pts = None  # frames are joined here, and holes filled where they are told of
        try:
            parts = [part.to_ndarray()[0] for part in self.resampler.resample(frame)]
        except (av.FFmpegError, ValueError) as error:
            raise UndecodableError(
                f"{self.name}: its channels ({self.layout}) cannot be mixed; convert it to stereo first"
            ) from error
        return np.concatenate(parts)


class _Resample:
    """FFmpeg's resampler on consecutive blocks of mono samples; what comes out is as long as what went in."""

    def __init__(self, rate: int, target: int) -> None:
        self.rate, self.target, self.taken, self.given = rate, target, 0, 0
        self.resampler = av.AudioResampler(format="fltp", layout="mono", rate=target)

    def feed(self, samples: Waveform) -> Waveform:
        if not len(samples):
            return samples
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
        frame.sample_rate = self.rate
        self.taken += len(samples)
        return self._run(frame)

    def flush(self) -> Waveform:
        length, before = _rescale(self.taken, self.rate, self.target), self.given
        parts = []
        if self.taken < 64 * max(1, self.rate // self.target):  # shorter than the filter, which would give nothing
            parts.append(self.feed(np.zeros(self.rate, np.float32)))
        parts.append(self._run(None))
        return np.concatenate(parts)[: max(0, length - before)]

    def _run(self, frame: Any | None) -> Waveform:
        parts = [part.to_ndarray()[0] for part in self.resampler.resample(frame)]
        self.given += sum(map(len, parts))
        return np.concatenate(parts) if parts else np.empty(0, np.float32)


class _Reader:
    """One pass over a file's audio, as chunks of samples with their place on the timeline."""

    def __init__(self, source: Source, target: int) -> None:
        self.source, self.name, self.target = source, name_of(source), target
        self.place = 0  # of the next sample to come out, at the target rate
        self.end: int | None = None  # where the audio ends, once that is known

    def chunks(self, start: float) -> Generator[tuple[int, Waveform], None, None]:
        """Yield (place of the first sample, samples) without holes, from at most `start` seconds on."""
        if start >= SEEK_FROM:
            with open_media(self.source) as container:
                decoder = Decoder(audio_stream(container, self.name), self.name)
                frames = self._seek(container, decoder, start)
                if frames is not None:
                    yield from self._mixed(container, decoder, frames, seeked=True)
                    return
        with open_media(self.source) as container:
            decoder = Decoder(audio_stream(container, self.name), self.name)
            yield from self._mixed(container, decoder, self._begin(container, decoder), seeked=False)

    def _begin(self, container: InputContainer, decoder: Decoder) -> Iterator[Any]:
        """Decoded frames from the beginning; notes where the timeline starts."""
        frames = decoder.all(container)
        first = next(frames, None)
        self.origin = start_of(container)
        # A few milliseconds of delay are the codec's; more is sound that really starts late.
        if first is not None and first.time is not None and first.time - self.origin <= HOLE:
            self.origin = first.time
        return itertools.chain([] if first is None else [first], frames)

    def _seek(self, container: InputContainer, decoder: Decoder, start: float) -> Iterator[Any] | None:
        """Decoded frames from a little before `start`; None where the format cannot seek there."""
        if next(self._begin(container, decoder), None) is None:
            return None
        asked = self.origin + start - PREROLL
        try:
            container.seek(math.floor(asked / decoder.stream.time_base), stream=decoder.stream)
        except av.FFmpegError:
            return None
        decoder.restart()
        frames = decoder.all(container)
        first = next(frames, None)
        if first is None or first.time is None or first.time > asked + PREROLL / 2:
            return None
        return itertools.chain([first], frames)

    def _mixed(
        self, container: InputContainer, decoder: Decoder, frames: Iterator[Any], *, seeked: bool
    ) -> Iterator[tuple[int, Waveform]]:
        mix: _Downmix | None = None
        at = 0  # of the next sample to go in, at its own rate
        limit = (container.duration or 0) / av.time_base + 1.0  # no sound is later than this, whatever a timestamp says
        try:
            for frame in frames:
                offset = None if frame.time is None else frame.time - self.origin
                if mix is None or not mix.fits(frame):
                    if mix is not None:
                        yield self._out(resample.flush())
                        at = _rescale(at, mix.rate, frame.sample_rate)
                    elif seeked:
                        at = round(offset * frame.sample_rate)
                    mix, resample = _Downmix(frame, self.name), _Resample(frame.sample_rate, self.target)
                    # Start on an instant that both rates share, so that a part is resampled on the whole file's grid.
                    lead = at % (mix.rate // math.gcd(mix.rate, self.target))
                    self.place = _rescale(at - lead, mix.rate, self.target)
                    yield self._out(resample.feed(np.zeros(lead, np.float32)))
                hole = 0 if offset is None or offset > limit else round(offset * mix.rate) - at
                if HOLE * mix.rate < hole < LONGEST_HOLE * mix.rate:
                    if at > 0:
                        decoder.warn_of(f"{hole / mix.rate:.2f} s of audio are missing at {at / mix.rate:.2f} s")
                    for size in _steps(hole, mix.rate):
                        yield self._out(resample.feed(np.zeros(size, np.float32)))
                    at += hole
                at += frame.samples
                yield self._out(resample.feed(mix.feed(frame)))
            decoder.check(promised_end(self.source, container, decoder.stream))
            assert mix is not None
            yield self._out(resample.flush())
            self._finish(container, decoder.stream, at / mix.rate)
        finally:
            decoder.warn()

    def _out(self, samples: Waveform) -> tuple[int, Waveform]:
        place = self.place
        self.place += len(samples)
        return place, samples

    def _finish(self, container: InputContainer, stream: Any, seconds: float) -> None:
        delay = self.origin - start_of(container)
        warn_if_truncated(self.source, container, stream, seconds + delay)
        promised = promised_end(self.source, container, stream)
        if promised is not None and 0 < seconds + delay - promised < HOLE:  # the last block runs past the sound's end
            seconds = promised - delay
        self.end = min(self.place, round(seconds * self.target))


class _Buffer:
    """Consecutive samples that are still needed."""

    def __init__(self) -> None:
        self.parts: deque[Waveform] = deque()
        self.begin = self.end = 0

    def push(self, place: int, samples: Waveform) -> None:
        if not self.parts:
            self.begin = self.end = place
        # A change of format in mid-stream may cost or repeat one sample.
        assert abs(place - self.end) <= 1
        self.parts.append(samples)
        self.end += len(samples)

    def drop(self, before: int) -> None:
        while self.parts and self.begin + len(self.parts[0]) <= before:
            self.begin += len(self.parts.popleft())

    def take(self, start: int, stop: int) -> Waveform:
        return np.concatenate(self.parts)[start - self.begin : stop - self.begin].copy()


def _cut(reader: _Reader, windows: float | Sequence[Window]) -> Iterator[tuple[Window, Waveform]]:
    rate = reader.target
    spans: Iterable[Window] = (
        windows
        if isinstance(windows, Sequence)
        else (Window(i * windows, (i + 1) * windows) for i in itertools.count())
    )
    tail = 0 if isinstance(windows, Sequence) else round(SHORTEST_TAIL * rate)
    buffer = _Buffer()
    with closing(reader.chunks(windows[0].start if isinstance(windows, Sequence) else 0.0)) as chunks:
        for span in spans:
            start, stop = round(span.start * rate), span.end * rate
            while reader.end is None and buffer.end < stop + tail:
                for chunk in itertools.islice(chunks, 1):
                    buffer.push(*chunk)
                buffer.drop(start)
            cropped = reader.end is not None and (stop > reader.end or reader.end - stop < tail)
            last = reader.end if cropped and reader.end is not None else round(stop)
            if last <= start:
                return
            waveform = buffer.take(start, last)
            _check_finite(waveform, reader.name)
            yield Window(span.start, last / rate if cropped else span.end), waveform
            if cropped and tail:
                return
