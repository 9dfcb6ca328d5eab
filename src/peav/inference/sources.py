"""From whatever a user passes (paths, bytes, file objects, arrays, tensors) to decoded windows for the towers."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np

from peav.errors import (
    MediaError,
    NoAudioStreamError,
    NoVideoStreamError,
    StreamWarning,
    UnsupportedInputError,
    ZeroLengthError,
)
from peav.media import (
    Frames,
    Window,
    as_waveform,
    iter_audio,
    iter_frames,
    load_audio,
    pad_to_hop,
    probe,
    resize_frames,
    windows,
)
from peav.media.source import fetched, fetched_both
from peav.types import DecodeFailure, Modality, modalities
from peav.utils.renamed import renamed

Streams = Modality | Literal["any"]
Part = tuple[Window, float, np.ndarray | None, np.ndarray | None]
"""A window, the duration of its input in seconds, samples (S,) and frames (N, size, size, 3)."""
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class MediaWindow:
    """One decoded window of one input: what the towers see. Times are in seconds."""

    index: int
    source: str
    start: float
    end: float
    duration: float  # of the whole input
    waveform: np.ndarray | None  # (S,) float32, whole hops
    frames: np.ndarray | None  # (N, size, size, 3) uint8

    @property
    def modality(self) -> Modality:
        """`audio`, `video` or `audio_video`: the streams that this window holds."""
        if self.frames is None:
            return "audio"
        return "video" if self.waveform is None else "audio_video"

    @property
    def nbytes(self) -> int:
        """Bytes that the decoded window holds in memory."""
        return sum(data.nbytes for data in (self.waveform, self.frames) if data is not None)


@dataclass(frozen=True)
class Finished:
    """Stands after the last window of an input that was read to its end, where somebody asked for it."""

    index: int
    source: str


Item: TypeAlias = MediaWindow | DecodeFailure | Finished
"""What a reader yields."""


def is_single(inputs: Any) -> bool:
    """Whether this is one input (a path, an array, a dict, a file); lists, generators and other iterables are many."""
    if isinstance(inputs, str | bytes | bytearray | memoryview | os.PathLike | Mapping):
        return True
    return is_array(inputs) or hasattr(inputs, "read") or not isinstance(inputs, Iterable)


def as_list(inputs: Any) -> tuple[list[Any], bool]:
    """`(items, single)`, see `is_single`.

    Raises:
        UnsupportedInputError: a list of plain numbers, which is neither files nor arrays.
    """
    if is_single(inputs):
        return [inputs], True
    items = list(inputs)
    if items and isinstance(items[0], int | float):
        raise UnsupportedInputError("a list of numbers is not an input; make it a float array and give sampling_rate=")
    return items, False


def unwrap(source: Any, sampling_rate: int | None) -> tuple[Any, int | None]:
    """What Hugging Face's audio and video dicts hold, and its sampling rate: an array, bytes or a path.

    Anything else is handed back as it is.
    """
    if not isinstance(source, Mapping):
        return source, sampling_rate
    if source.get("array") is not None:
        array = source["array"]
        return array if is_array(array) else np.asarray(array), source.get("sampling_rate", sampling_rate)
    content = source.get("path") if source.get("bytes") is None else source["bytes"]
    return source if content is None else content, sampling_rate


def is_array(value: Any) -> bool:
    """Whether a value is an array or a tensor; told without loading torch, which decoding does not need."""
    return isinstance(value, np.ndarray) or (hasattr(value, "detach") and hasattr(value, "dtype"))


def name_of(source: Any, index: int) -> str:
    """What to call an input in results and messages: its path, or its kind and place."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    name = source.get("path") if isinstance(source, Mapping) else getattr(source, "name", None)
    return name if isinstance(name, str) else f"<{type(source).__name__} {index}>"


@dataclass(frozen=True)
class WindowReader:
    """Cuts inputs into windows and decodes them the way the model wants them.

    Args:
        streams: which streams an input must have; `any` takes what is there.
        window: seconds; None reads each input whole.
        hop: samples of one codec latent; waveforms are reflect-padded at the end to a multiple of it.
        size: side of the square frames in pixels.
        num_frames: frames taken evenly from each window; None takes all of them.
        max_steps: most that a tower takes at once.
    """

    streams: Streams
    window: float | None
    rate: int
    hop: int
    size: int
    num_frames: int | None
    max_steps: int

    def read(self, sources: Iterable[Any], sampling_rate: int | None) -> Iterator[MediaWindow | DecodeFailure]:
        """Every window of every input, in order; an input that cannot be read is a `DecodeFailure` in its place."""
        for index, source in enumerate(sources):
            try:
                yield from self.clips(index, source, sampling_rate)
            except MediaError as error:
                yield DecodeFailure(index, name_of(source, index), error)

    def clips(self, index: int, source: Any, sampling_rate: int | None) -> Iterator[MediaWindow]:
        """Decode one input window by window; yields at least one clip or raises a `MediaError` that names the input."""
        name = name_of(source, index)
        for span, duration, sound, frames in self._parts(name, *unwrap(source, sampling_rate)):
            waveform = None if sound is None else pad_to_hop(sound, self.hop)
            steps = max(0 if waveform is None else len(waveform) // self.hop, 0 if frames is None else len(frames))
            if steps > self.max_steps:
                fix = "give window=30.0" if self.window is None else f"give a window shorter than {self.window:g} s"
                raise UnsupportedInputError(f"{name}: {steps} steps, but a tower takes {self.max_steps}; {fix}")
            yield MediaWindow(index, name, span.start, span.end, duration, waveform, frames)

    def _parts(self, name: str, source: Any, sampling_rate: int | None) -> Iterator[Part]:
        if isinstance(source, Mapping):
            if not {"audio", "video"} & source.keys():
                raise UnsupportedInputError(
                    f"{name}: a dict has `audio`, `video` or both, or is audio of Hugging Face (`array` and "
                    f"`sampling_rate`, `bytes` or `path`), but this one has {', '.join(map(str, source)) or 'nothing'}"
                )
            audio, rate = unwrap(source.get("audio"), sampling_rate)
            video = unwrap(source.get("video"), None)[0]
            spread = video is not None and is_array(video)  # frames without times go by the length of the sound
            arrays = spread or (video is None and (audio is None or is_array(audio)))
            return (self._from_arrays if arrays else self._from_files)(name, audio, video, rate)
        if is_array(source):
            audio, video = (None, source) if source.ndim == 4 else (source, None)
            return self._from_arrays(name, audio, video, sampling_rate)
        return self._from_file(name, source)

    def _from_file(self, name: str, source: Any) -> Iterator[Part]:
        source = fetched(source)
        info = probe(source)
        wanted = self._wanted(name, info.has_audio, info.has_video)
        spans = self._file_spans(info.duration, len(wanted))
        sounds = iter_audio(source, spans, sampling_rate=self.rate) if "audio" in wanted else iter(())
        pictures = self._pictures(source, spans) if "video" in wanted else iter(())
        spared: list[MediaError] = []
        if self.streams == "any" and len(wanted) == 2:
            sounds, pictures = spare(sounds, "audio", spared), spare(pictures, "video", spared)
        yield from self._windows(name, info.duration, sounds, pictures, spared)

    def _pictures(self, source: Any, spans: float | list[Window]) -> Iterator[tuple[Window, Frames]]:
        return iter_frames(source, spans, num_frames=self.num_frames, size=self.size)

    def _windows(
        self,
        name: str,
        duration: float,
        sounds: Iterator[tuple[Window, np.ndarray]],
        pictures: Iterator[tuple[Window, Frames]],
        spared: list[MediaError],
    ) -> Iterator[Part]:
        empty = True
        for window, waveform, frames in side_by_side(sounds, pictures):
            if self.streams == "audio_video" and (waveform is None or frames is None):
                continue  # one stream is longer than the other: what is left has no pair
            empty = False
            pixels = None if frames is None else frames.pixels
            yield window, max(duration, window.end), waveform, pixels
        if empty:
            raise next(iter(spared), None) or ZeroLengthError(
                f"{name}: its streams hold nothing; copy or record the file again"
            )

    def _file_spans(self, duration: float, streams: int) -> float | list[Window]:
        """Where to cut. The last window is open: a file may hold more than its header says."""
        if self.window is None:
            return [Window(0.0, math.inf)]
        if streams == 1:
            return self.window
        spans = windows(duration, self.window)
        return [*spans[:-1], Window(spans[-1].start, math.inf)]

    def _from_files(self, name: str, audio: Any, video: Any, sampling_rate: int | None) -> Iterator[Part]:
        """Sound and pictures that lie in files of their own, as if one file held both."""
        audio, video = fetched_both(audio, video)
        wanted = self._wanted(name, audio is not None, video is not None)
        waveform = self._waveform(audio, name, sampling_rate) if "audio" in wanted and is_array(audio) else None
        lengths = [0.0 if waveform is None else len(waveform) / self.rate]
        lengths += [probe(audio).duration] if "audio" in wanted and waveform is None else []
        lengths += [probe(video).duration] if "video" in wanted else []
        spans = self._file_spans(max(lengths), 2)
        sounds: Iterator[tuple[Window, np.ndarray]] = iter(())
        if waveform is not None:
            sounds = cut_waveform(waveform, self.rate, spans)
        elif "audio" in wanted:
            sounds = iter_audio(audio, spans, sampling_rate=self.rate)
        pictures = self._pictures(video, spans) if "video" in wanted else iter(())
        yield from self._windows(name, max(lengths), sounds, pictures, [])

    def _from_arrays(self, name: str, audio: Any, video: Any, sampling_rate: int | None) -> Iterator[Part]:
        wanted = self._wanted(name, audio is not None, video is not None)
        waveform = self._waveform(audio, name, sampling_rate) if "audio" in wanted else None
        frames = as_frames(video, name) if "video" in wanted else None
        if waveform is None:
            assert frames is not None
            yield Window(0.0, 0.0), 0.0, None, self._thin(frames)
            return
        duration = len(waveform) / self.rate
        for span, samples in cut_waveform(waveform, self.rate, self._file_spans(duration, 1)):
            # Frames without times are taken as evenly spread over the sound that they come with.
            part = None if frames is None else self._thin(_between(frames, span.start / duration, span.end / duration))
            yield span, duration, samples, part

    def _waveform(self, audio: Any, name: str, sampling_rate: int | None) -> np.ndarray:
        if not is_array(audio):
            return load_audio(audio, sampling_rate=self.rate)
        if sampling_rate is None:
            raise UnsupportedInputError(f"{name}: an array of samples needs sampling_rate= in Hz")
        try:
            return as_waveform(audio, sampling_rate, self.rate)
        except MediaError as error:
            raise type(error)(f"{name}: {error}") from error

    def _wanted(self, name: str, has_audio: bool, has_video: bool) -> set[Modality]:
        """The streams to decode; an input that lacks a stream it must have is an error that says so."""
        there = set(modalities(has_audio, has_video)) - {"audio_video"}
        if self.streams == "any":
            if not there:
                raise NoAudioStreamError(f"{name}: neither an audio nor a video stream; give a media file")
            return there
        wanted: set[Modality] = {"audio", "video"} if self.streams == "audio_video" else {self.streams}
        if "audio" in wanted - there:
            raise NoAudioStreamError(f"{name}: no audio stream; use it as video, by its pictures alone")
        if "video" in wanted - there:
            raise NoVideoStreamError(f"{name}: no video stream; use it as audio, by its sound alone")
        return wanted

    def _thin(self, frames: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) -> the frames that the model takes, squashed to its size."""
        if self.num_frames is not None:
            gaps = max(self.num_frames - 1, 1)  # the official models index so
            frames = frames[[int(i * (len(frames) - 1) / gaps) for i in range(self.num_frames)]]
        return resize_frames(frames, self.size)


def as_frames(video: Any, name: str) -> np.ndarray:
    """(N, H, W, 3) or (N, 3, H, W) uint8 -> (N, H, W, 3) uint8.

    Raises:
        UnsupportedInputError: another dtype or shape. ZeroLengthError: no frames.
    """
    frames = video.detach().cpu().numpy() if hasattr(video, "detach") else video
    if frames.ndim != 4 or 3 not in (frames.shape[1], frames.shape[3]) or frames.dtype != np.uint8:
        held = f"{frames.dtype} of shape {tuple(frames.shape)}"
        raise UnsupportedInputError(f"{name}: frames are uint8 (N, H, W, 3) or (N, 3, H, W), not {held}")
    if 0 in frames.shape:
        raise ZeroLengthError(f"{name}: no frames; give at least one")
    return np.ascontiguousarray(frames if frames.shape[3] == 3 else frames.transpose(0, 2, 3, 1))


def spare(windows: Iterator[T], kind: Modality, spared: list[MediaError]) -> Iterator[T]:
    """The windows of one of a file's two streams; what is wrong with it ends them with a warning, put into `spared`."""
    with sparing(kind, spared):
        yield from windows


@contextmanager
def sparing(kind: Modality, spared: list[MediaError]) -> Iterator[None]:
    """A `MediaError` of one of a file's two streams becomes a warning and is put into `spared`."""
    try:
        yield
    except MediaError as error:
        spared.append(error)
        warnings.warn(f"{error} (the file is used without its {kind} from here on)", StreamWarning, stacklevel=2)


def cut_waveform(waveform: np.ndarray, rate: int, spans: float | list[Window]) -> Iterator[tuple[Window, np.ndarray]]:
    """`(window, samples)` of (S,) samples at `rate` Hz, as `iter_audio` gives them for a file."""
    duration = len(waveform) / rate
    for span in windows(duration, spans) if isinstance(spans, float | int) else spans:
        part = waveform[round(span.start * rate) : round(min(span.end, duration) * rate)]
        if len(part):
            yield Window(span.start, min(span.end, duration)), part


def side_by_side(
    sounds: Iterator[tuple[Window, np.ndarray]], pictures: Iterator[tuple[Window, Frames]]
) -> Iterator[tuple[Window, np.ndarray | None, Frames | None]]:
    """Join the windows of two streams that begin together; one of them may end before the other."""
    sound, picture = next(sounds, None), next(pictures, None)
    while sound or picture:
        start = min(part[0].start for part in (sound, picture) if part)
        waveform = frames = None
        end = start
        if sound and sound[0].start == start:
            end, waveform, sound = sound[0].end, sound[1], next(sounds, None)
        if picture and picture[0].start == start:
            end, frames, picture = max(end, picture[0].end), picture[1], next(pictures, None)
        yield Window(start, end), waveform, frames


def _between(frames: np.ndarray, start: float, end: float) -> np.ndarray:
    first = min(int(start * len(frames)), len(frames) - 1)
    return frames[first : max(first + 1, round(end * len(frames)))]


def read_ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items in the same order, the next one made in a thread while the caller works on this one."""
    iterator = iter(items)
    worker = ThreadPoolExecutor(1)
    try:
        future = worker.submit(next, iterator, None)
        while (item := future.result()) is not None:
            future = worker.submit(next, iterator, None)
            yield item
    finally:
        # The garbage collector closes a stream that was given up, in whatever thread it runs; while that thread is
        # being started it holds a lock of the threading module, and would wait for another one for ever.
        worker.shutdown(wait=False, cancel_futures=True)


if not TYPE_CHECKING:
    __getattr__ = renamed(
        __name__, {"Unreadable": "peav.types:DecodeFailure", "Reader": "peav.inference.sources:WindowReader"}
    )
