"""Any audio to mono float32 at one rate: FFmpeg's own decoders, downmix and resampler, one pass, bounded memory.

The timeline of a file starts where the file starts. Holes in its timestamps become silence, so that a time in a
result is a time in a player; sound that starts late, as it can beside video, is preceded by silence too.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from peav.media.errors import (
    NonFiniteError,
    SampleRangeWarning,
    UndecodableError,
    UnsupportedInputError,
    WindowError,
    ZeroLengthError,
)
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
PREROLL = 2.0  # seconds decoded before the asked start, so that decoder and resampler have settled by then
SEEK_FROM = 4.0  # seconds: seeking pays from here on
FASTEST = 10_000_000  # hertz
BLOCK = 1 << 18  # samples resampled at once
LOUDEST = 16  # times full scale (24 dB above it): float samples beyond were never scaled
_LAYOUTS = ("", "mono", "stereo", "3c", "4c", "5c", "6c", "7c", "8c")  # FFmpeg's, by the number of channels


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
        self._mixer: _Mixer | None = None
        self._channels = 0

    def push(self, samples: Any) -> Waveform:
        """(S,) or (C, S) of any number of samples, at least one; returns what is ready. Errors as `as_waveform`, and
        `UnsupportedInputError` where the number of channels changes."""
        planes = _planes(samples)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), format="fltp", layout=_LAYOUTS[len(planes)])
        frame.sample_rate = self.rate
        if self._mixer is None:
            self._mixer, self._channels = _Mixer(frame, self.target, "the samples"), len(planes)
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
    if array.dtype.kind == "f" and max(planes.max(), -planes.min()) > LOUDEST:
        warnings.warn(
            f"float samples beyond {LOUDEST}, where full scale is 1: divide what was 16-bit by 32768, or give int16",
            SampleRangeWarning,
            stacklevel=2,
        )
    return planes


def _check_finite(samples: NDArray[np.float32], name: str) -> None:
    if not np.isfinite(samples).all():
        bad = int(np.count_nonzero(~np.isfinite(samples)))
        raise NonFiniteError(f"{name}: {bad} samples are NaN or infinite; repair or re-export the audio")


def _rescale(samples: int, rate: int, target: int) -> int:
    """`samples` at `rate` in samples at `target`, rounded half up."""
    return (2 * samples * target + rate) // (2 * rate)


class _Mixer:
    """FFmpeg's downmix and then its resampler, for consecutive frames of one format; what goes in comes out as long.

    In two steps, so that silence can be put in between: layouts of channels exist for which no frame can be made.
    """

    def __init__(self, frame: Any, target: int, name: str) -> None:
        self.rate, self.format, self.layout = frame.sample_rate, frame.format.name, frame.layout.name
        self.target, self.name = target, name
        if self.rate > FASTEST:
            raise UndecodableError(f"{name}: its header says {self.rate} Hz: damaged; copy or convert it again")
        self.downmix = av.AudioResampler(format="fltp", layout="mono", rate=self.rate)
        self.resampler = av.AudioResampler(format="fltp", layout="mono", rate=target)
        self.taken = self.given = 0

    def fits(self, frame: Any) -> bool:
        return (frame.sample_rate, frame.format.name, frame.layout.name) == (self.rate, self.format, self.layout)

    def feed(self, frame: Any) -> Waveform:
        if not frame.samples:
            return np.empty(0, np.float32)
        frame.pts = None  # frames are joined here; holes are filled where they are told of
        try:
            mono = [part.to_ndarray() for part in self.downmix.resample(frame)]
        except (av.FFmpegError, ValueError) as error:
            raise UndecodableError(
                f"{self.name}: its channels ({self.layout}) cannot be mixed; convert it to stereo first"
            ) from error
        return self._resampled(np.concatenate(mono, axis=1))

    def silence(self, samples: int) -> Iterator[Waveform]:
        for at in range(0, samples, BLOCK):
            yield self._resampled(np.zeros((1, min(BLOCK, samples - at)), np.float32))

    def flush(self) -> Waveform:
        length, before = _rescale(self.taken, self.rate, self.target), self.given
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
        mixer: _Mixer | None = None
        at = 0  # of the next sample to go in, at its own rate
        limit = (container.duration or 0) / av.time_base + 1.0  # no sound is later than this, whatever a timestamp says
        try:
            for frame in frames:
                offset = None if frame.time is None else frame.time - self.origin
                if mixer is not None and not mixer.fits(frame):
                    yield self._out(mixer.flush())
                    at = _rescale(at, mixer.rate, frame.sample_rate)
                    mixer = _Mixer(frame, self.target, self.name)
                if mixer is None:
                    mixer = _Mixer(frame, self.target, self.name)
                    at = round(offset * mixer.rate) if seeked else 0
                    # Start on an instant that both rates share, so that a part is resampled on the whole file's grid.
                    lead = at % (mixer.rate // math.gcd(mixer.rate, self.target))
                    self.place = _rescale(at - lead, mixer.rate, self.target)
                    yield from map(self._out, mixer.silence(lead))
                hole = 0 if offset is None or offset > limit else round(offset * mixer.rate) - at
                if HOLE * mixer.rate < hole < LONGEST_HOLE * mixer.rate:
                    if at > 0:
                        decoder.warn_of(f"{hole / mixer.rate:.2f} s of audio are missing at {at / mixer.rate:.2f} s")
                    yield from map(self._out, mixer.silence(hole))
                    at += hole
                at += frame.samples
                yield self._out(mixer.feed(frame))
            decoder.check(promised_end(self.source, container, decoder.stream))
            assert mixer is not None
            yield self._out(mixer.flush())
            self._finish(container, decoder.stream, at / mixer.rate)
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
        assert place == self.end
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


def pad_to_hop(waveform: np.ndarray, hop: int) -> np.ndarray:
    """(S,) -> (ceil(S / hop) * hop,), the end mirrored as the official processor does it."""
    missing = -len(waveform) % hop
    return np.pad(waveform, (0, missing), mode="reflect") if missing else waveform
