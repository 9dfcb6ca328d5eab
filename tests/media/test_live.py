"""Sound through a pipe is what the file holds, and comes before the file has come whole."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from media.make import pictures, tone, write_audio, write_video

from peav.media import NoAudioStreamError, NotMediaError, ZeroLengthError, load_audio
from peav.media.live import iter_pipe, iter_samples


@contextmanager
def piped(data: bytes, first: int | None = None, go_on: Event | None = None) -> Iterator[int]:
    """The reading end of a pipe that a thread writes to; with `go_on`, the first bytes, and the rest once it is set."""
    reading, writing = os.pipe()

    def write() -> None:
        with io.FileIO(writing, "w") as pipe:
            for part in (data[:first], data[first:] if first is not None else b""):
                rest = memoryview(part)
                while rest:
                    rest = rest[pipe.write(rest) :]
                if go_on is not None and not go_on.wait(20):
                    break  # the reader wanted more than the first bytes: it finds the end of the file

    thread = Thread(target=write, daemon=True)
    thread.start()
    try:
        yield reading
    finally:
        os.close(reading)
        if go_on is not None:
            go_on.set()
        thread.join(20)


FILES: dict[str, Callable[[Path], Path]] = {
    "wav": lambda folder: write_audio(folder / "a.wav", tone(6.0, 16_000), 16_000),  # FFmpeg waits for 64 KB
    "flac": lambda folder: write_audio(folder / "a.flac", tone(3.0, channels=2), codec="flac"),
    "mp3": lambda folder: write_audio(folder / "a.mp3", tone(3.0, 44_100), 44_100, codec="mp3"),
    "opus": lambda folder: write_audio(folder / "a.ogg", tone(3.0), codec="libopus"),
    "aac": lambda folder: write_audio(folder / "a.aac", tone(3.0), codec="aac"),
    "mkv": lambda folder: write_audio(folder / "a.mkv", tone(3.0), codec="flac"),
    "ts": lambda folder: write_video(folder / "a.ts", pictures(25), sound=tone(1.0)),
}


@pytest.mark.parametrize("kind", FILES)
def test_what_comes_through_a_pipe_is_what_the_file_holds(kind: str, tmp_path: Path) -> None:
    path = FILES[kind](tmp_path)
    with piped(path.read_bytes()) as pipe:
        heard = np.concatenate(list(iter_pipe(pipe)))
    wanted = load_audio(path)
    if kind == "mp3":  # FFmpeg leaves its encoder's padding at the end out of files that it can seek in alone
        assert 0 <= len(heard) - len(wanted) < 2 * 1152 * 48_000 / 44_100
        heard = heard[: len(wanted)]
        heard, wanted = heard[:-100], wanted[:-100]  # the resampler's filter reaches into what was left out
    assert np.array_equal(heard, wanted)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "opus", "mkv"])
def test_sound_comes_out_before_the_rest_has_gone_in(kind: str, tmp_path: Path) -> None:
    """The writer waits for the first block: were all of the file needed for it, none would come."""
    data, go_on = FILES[kind](tmp_path).read_bytes(), Event()
    with piped(data, len(data) * 2 // 3, go_on) as pipe:
        blocks = iter_pipe(pipe)
        first = next(block for block in blocks if len(block))
        assert not go_on.is_set()
        go_on.set()
        rest = list(blocks)
    assert np.concatenate([first, *rest]).size >= 2.9 * 48_000


def test_bare_samples_come_whole_however_the_pipe_cuts_them() -> None:
    samples = np.arange(-500, 500, dtype="<i2")
    go_on = Event()
    with piped(samples.tobytes() + b"\1", 333, go_on) as pipe:
        blocks = iter_samples(pipe)
        first = next(blocks)
        go_on.set()
        assert np.array_equal(np.concatenate([first, *blocks]), samples)
    assert len(first) == 166


def test_what_is_no_sound_is_an_error_that_says_so(tmp_path: Path) -> None:
    with piped(b"hello " * 50_000) as pipe, pytest.raises(NotMediaError, match="sampling rate"):
        list(iter_pipe(pipe))
    silent = write_video(tmp_path / "a.mkv", pictures(10)).read_bytes()
    with piped(silent) as pipe, pytest.raises(NoAudioStreamError, match="stdin"):
        list(iter_pipe(pipe))
    with piped(b"") as pipe, pytest.raises(ZeroLengthError, match="stdin"):
        list(iter_samples(pipe))
    with piped(b"") as pipe, pytest.raises(NotMediaError, match="stdin"):
        list(iter_pipe(pipe))


def test_a_playlist_that_comes_through_a_pipe_opens_nothing(tmp_path: Path) -> None:
    secret = write_audio(tmp_path / "a.wav", tone(0.5))
    with piped(f"#EXTM3U\n#EXTINF:1,\n{secret}\n".encode()) as pipe, pytest.raises(NotMediaError):
        list(iter_pipe(pipe))
