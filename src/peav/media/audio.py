"""Any audio to mono float32 at one rate: FFmpeg's own decoders, downmix and resampler, one pass, bounded memory.

The timeline of a file starts where the file starts. Holes in its timestamps become silence, so that a time in a
result is a time in a player; sound that starts late, as it can beside video, is preceded by silence too.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import av
import numpy as np
from av.container import InputContainer

from peav.errors import NoAudioStreamError, WindowError
from peav.media.clock import PREROLL, SEEK_FROM, Clock, must_be_read, seconds
from peav.media.joined import sections
from peav.media.limits import check_duration, check_rate
from peav.media.resample import Mixer, Waveform, check_finite, rescale
from peav.media.source import Source, name_of
from peav.media.streams import HOLE, Decoder, audio_stream
from peav.media.tracks import length, open_tracks, track
from peav.media.truncation import promised_end, warn_if_truncated
from peav.media.windows import SHORTEST_TAIL, Window, check_length, check_window


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
    parts = sections(source)
    reader = Reader(source, sampling_rate) if len(parts) == 1 else _JoinedReader(source, parts, sampling_rate)
    yield from _cut(reader, windows)


class Reader:
    """One pass over a file's audio, as chunks of samples with their place on the timeline.

    `live`: of what comes through a pipe, where nothing can be looked up before it is there; see `read`.
    """

    def __init__(self, source: Source, target: int, *, live: bool = False) -> None:
        self.source, self.target, self.live = source, target, live
        self.name = "stdin" if live else name_of(source)
        self.origin = 0.0  # where the timeline starts, in the seconds of the file's timestamps
        self.place = 0  # of the next sample to come out, at the target rate
        self.end: int | None = None  # where the audio ends, once that is known

    def chunks(self, start: float) -> Generator[tuple[int, Waveform], None, None]:
        """Yield (place of the first sample, samples) without holes, from at most `start` seconds on."""
        if start >= SEEK_FROM:
            with open_tracks(self.source) as container:
                decoder = Decoder(audio_stream(container, self.name), self.name)
                found = self._from(start, container, decoder)
                if found is not None:
                    yield from self._mixed(container, decoder, *found, part=True)
                    return
        with open_tracks(self.source) as container:
            stream = audio_stream(container, self.name)
            yield from self.read(container, stream, track(self.source, container, stream))

    def read(
        self, container: InputContainer, stream: Any, streams: list[Any]
    ) -> Generator[tuple[int, Waveform], None, None]:
        """The same of an open file, from its beginning; `stream` is the first of `streams` to be heard."""
        decoder, clock = Decoder(stream, self.name), Clock(container)
        frames = self._begin(decoder, clock, clock.packets(*streams))
        yield from self._mixed(container, decoder, clock, frames, part=False)

    def _begin(self, decoder: Decoder, clock: Clock, packets: Iterator[Any]) -> Iterator[Any]:
        """Decoded frames from the beginning; notes where the timeline starts."""
        frames = decoder.all(packets)
        first = next(frames, None)
        self.origin = clock.origin(None if first is None else first.time)
        return itertools.chain([] if first is None else [first], frames)

    def _from(self, start: float, container: InputContainer, decoder: Decoder) -> tuple[Clock, Iterator[Any]] | None:
        """Decoded frames from a little before `start`, and their clock; None where the format cannot seek there."""
        clock = Clock(container)
        packets = clock.packets(*track(self.source, container, decoder.stream))
        # The beginning is decoded here too: only its first frame tells where the timeline starts, after the codec's
        # delay.
        if next(self._begin(decoder, clock, packets), None) is None:
            return None
        asked = self.origin + start - PREROLL
        if must_be_read(container):  # only reading tells the time: what is too early is read and not decoded
            packets = itertools.dropwhile(lambda p: p.pts is None or seconds(p.pts, p.time_base) < asked, packets)
            decoder.stream.codec_context.flush_buffers()
        else:
            clock = Clock(container)
            packets = clock.packets(*track(self.source, container, decoder.stream))
            try:
                container.seek(math.floor(asked / decoder.stream.time_base), stream=decoder.stream)
            except av.FFmpegError:
                return None
        decoder.restart()
        frames = decoder.all(packets)
        first = next(frames, None)
        # The seek came out too late for decoder and resampler to settle: read from the beginning.
        if first is None or first.time is None or first.time > asked + PREROLL / 2:
            return None
        return clock, itertools.chain([first], frames)

    def _mixed(
        self, container: InputContainer, decoder: Decoder, clock: Clock, frames: Iterator[Any], *, part: bool
    ) -> Iterator[tuple[int, Waveform]]:
        mixer: Mixer | None = None
        at = 0  # of the next sample to go in, at its own rate
        joins = 0  # segments that have come
        begun = 0.0  # the seconds at which this pass starts
        early = 0  # samples to leave out, which the segment before took the place of
        tick = min(float(decoder.stream.time_base), 1e-3)
        try:
            for frame in frames:
                offset = None if frame.time is None else frame.time - self.origin
                if mixer is not None and not mixer.fits(frame):
                    yield self._out(mixer.flush())
                    at = rescale(at, mixer.rate, frame.sample_rate)
                    mixer = self._mixer(frame)
                anew = mixer is None and not part
                if mixer is None:
                    mixer = self._mixer(frame)
                    at = round(offset * mixer.rate) if part and offset is not None else 0
                    begun = at / mixer.rate
                    # Start on an instant that both rates share, so that a part is resampled on the whole file's grid.
                    lead = at % (mixer.rate // math.gcd(mixer.rate, self.target))
                    self.place = rescale(at - lead, mixer.rate, self.target)
                    yield from map(self._out, mixer.silence(lead))
                if offset is not None:
                    joined = bisect_right(clock.joins, frame.time + tick)
                    anew, joins = anew or joined > joins, joined
                    hole = round(offset * mixer.rate) - at
                    if hole > (tick if anew else HOLE) * mixer.rate:
                        if not anew:
                            where = f"{at / mixer.rate:.2f} s"
                            decoder.warn_of(f"{hole / mixer.rate:.2f} s of audio are missing at {where}")
                        check_duration((at + hole) / mixer.rate - begun, self.name, packets=decoder.packets)
                        yield from map(self._out, mixer.silence(hole))
                        at += hole
                    elif anew and at > 0:
                        early = max(0, -hole)
                drop = min(early, frame.samples)
                early -= drop
                at += frame.samples - drop
                yield self._out(mixer.feed(frame, drop))
            decoder.check(None if self.live else promised_end(self.source, container, decoder.stream))
            assert mixer is not None
            yield self._out(mixer.flush())
            if not self.live:
                warn_if_truncated(self.source, container, decoder.stream, at / mixer.rate + self.origin - clock.start)
            self.end = self.place
        finally:
            decoder.warn()

    def _mixer(self, frame: Any) -> Mixer:
        check_rate(frame.sample_rate, self.name)  # which need not be the header's
        return Mixer(frame, self.target, self.name)

    def _out(self, samples: Waveform) -> tuple[int, Waveform]:
        place = self.place
        self.place += len(samples)
        return place, samples


class _JoinedReader:
    """One pass over the audio of files that follow each other; each begins where the one before it ends, and what an
    encoder padded that one with is left out.
    """

    def __init__(self, source: Source, parts: list[Source], target: int) -> None:
        self.name, self.parts, self.target = name_of(source), parts, target
        self.end: int | None = None

    def chunks(self, start: float) -> Generator[tuple[int, Waveform], None, None]:
        """The same as `Reader.chunks`; a part without sound is silent."""
        begin, heard = 0.0, False
        place: int | None = None
        for part in self.parts:
            first, last = round(begin * self.target), part is self.parts[-1]
            begin += length(part)
            if begin <= start and not last:
                continue
            stop = None if last else round(begin * self.target)
            try:
                for at, samples in Reader(part, self.target).chunks(max(0.0, start - first / self.target)):
                    at = first + at if stop is None else min(first + at, stop)
                    place = at if place is None else place
                    while place < at:
                        yield place, np.zeros(min(self.target, at - place), np.float32)
                        place += min(self.target, at - place)
                    kept = samples if stop is None else samples[: stop - place]
                    yield place, kept
                    place += len(kept)
                heard = True
            except NoAudioStreamError:
                if last and not heard:
                    raise
                place = first if place is None else place
        self.end = place


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
        # A view would keep the whole buffer alive.
        return np.concatenate(self.parts)[start - self.begin : stop - self.begin].copy()


def _cut(reader: Reader | _JoinedReader, windows: float | Sequence[Window]) -> Iterator[tuple[Window, Waveform]]:
    rate = reader.target
    spans: Iterable[Window]
    if isinstance(windows, Sequence):
        spans, begin, tail = windows, windows[0].start, 0
    else:
        spans = (Window(i * windows, (i + 1) * windows) for i in itertools.count())
        begin, tail = 0.0, round(SHORTEST_TAIL * rate)
    buffer = _Buffer()
    # Else the file would stay open where a caller stops early.
    with closing(reader.chunks(begin)) as chunks:
        for span in spans:
            start, stop = round(span.start * rate), span.end * rate
            while reader.end is None and buffer.end < stop + tail:
                # islice and not next, which would raise where the audio ends; `reader.end` then says where that is.
                for chunk in itertools.islice(chunks, 1):
                    buffer.push(*chunk)
                buffer.drop(start)
            cropped = reader.end is not None and (stop > reader.end or reader.end - stop < tail)
            last = reader.end if cropped and reader.end is not None else round(stop)
            if last <= start:
                return
            waveform = buffer.take(start, last)
            check_finite(waveform, reader.name)
            yield Window(span.start, last / rate if cropped else span.end), waveform
            if cropped and tail:
                return


def pad_to_hop(waveform: np.ndarray, hop: int) -> np.ndarray:
    """(S,) -> (ceil(S / hop) * hop,), the end mirrored as the official processor does it."""
    # numpy goes on reflecting where the sound is shorter than what is missing, as 600 samples are; torch would raise.
    missing = -len(waveform) % hop
    return np.pad(waveform, (0, missing), mode="reflect") if missing else waveform
