"""Decoding in worker processes: the same clips in the same order, and no file takes another one with it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media.make import bad_files, pictures, tone, write_audio, write_video

from peav.inference.isolation import IsolatedReader
from peav.inference.sources import Finished, MediaWindow, WindowReader
from peav.media import DecoderCrashError, DecodingMemoryError, DecodingTimeoutError
from peav.types import DecodeFailure
from peav.utils.workers import TaskLimits

READER = WindowReader("any", 2.0, 48000, 1920, 32, 4, 10_000)
TIGHT = TaskLimits(cpu_seconds=3.0, idle_seconds=2.0, memory=200 << 20)


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files whose names say so crash their decoder, see `hostile_decoder`."""
    monkeypatch.setenv("PEAV_WORKER_HOOK", "hostile_decoder:decode")


def read(sources: Any, rate: int | None = None, **options: Any) -> list[Any]:
    with IsolatedReader(READER, sources, rate, **options) as items:
        return list(items)


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, DecodeFailure):
        return (one.index, one.source, type(one.error), str(one.error)) == (
            *(other.index, other.source),
            *(type(other.error), str(other.error)),
        )
    same = [np.array_equal(getattr(one, name), getattr(other, name)) for name in ("waveform", "frames")]
    times = [(clip.index, clip.source, clip.start, clip.end, clip.duration) for clip in (one, other)]
    return all(same) and times[0] == times[1]


def workers() -> list[str]:
    """Command lines of our children that are workers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = entry.read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid() and b"peav.utils.worker" in (entry.parent / "cmdline").read_bytes():
                found.append(entry.parent.name)
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_clips_errors_and_their_order_are_those_of_decoding_here(tmp_path: Path) -> None:
    long = write_audio(tmp_path / "long.wav", tone(9.0, seed=1))
    both = write_video(tmp_path / "both.mp4", pictures(60), sound=tone(2.4))
    bad = [path for path, _ in bad_files(tmp_path / "bad").values()]
    array = tone(3.0, seed=2)
    with long.open("rb") as opened:
        sources = [long, *bad[:5], both, both.read_bytes(), array, opened, {"audio": long, "video": both}, *bad[5:]]
        here = list(READER.read(sources, 48000))
        there = read(sources, 48000)
    items = [item for item in there if not isinstance(item, Finished)]
    assert len(items) == len(here) > 20
    assert all(alike(*pair) for pair in zip(items, here, strict=True))
    unreadable = {item.index for item in here if isinstance(item, DecodeFailure)}
    finished = [item.index for item in there if isinstance(item, Finished)]
    assert finished == [index for index in range(len(sources)) if index not in unreadable]
    assert not workers()


@pytest.mark.slow
@pytest.mark.usefixtures("hostile")
def test_a_crash_a_hang_a_loop_and_a_glutton_cost_themselves_alone(tmp_path: Path) -> None:
    names = ["a", "crash", "b", "hang", "eat", "c", "loop", "raise", "d"]
    files = [write_audio(tmp_path / f"{name}.wav", tone(0.2)) for name in names]
    found = {Path(item.source).stem: item for item in read(files, limits=TIGHT) if not isinstance(item, Finished)}
    assert list(found) == names
    wanted = {
        "crash": (DecoderCrashError, "crash.wav: decoding it failed: its process crashed (signal SIGSEGV)"),
        "hang": (DecodingTimeoutError, "hang.wav: decoding it failed: it stood still for 2 s"),
        "loop": (DecodingTimeoutError, "loop.wav: decoding it failed: it took more than 3 s of processor time"),
        "eat": (DecodingMemoryError, "GB, of 0.2 GB allowed"),
        "raise": (
            DecoderCrashError,
            "raise.wav: decoding it failed with IndexError: tuple index out of range (",
        ),
    }
    for name, item in found.items():
        if name in wanted:
            kind, said = wanted[name]
            assert type(item.error) is kind
            assert said in str(item.error)
        else:
            assert isinstance(item, MediaWindow)


@pytest.mark.usefixtures("hostile")
def test_warnings_come_through_each_once(tmp_path: Path) -> None:
    files = [write_audio(tmp_path / f"{name}.wav", tone(0.2)) for name in ("warn1", "warn2")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        read(files)
    assert [str(warning.message) for warning in caught] == [f"{file}: odd" for file in files]


@pytest.mark.slow
def test_windows_that_are_known_are_left_out_and_the_others_are_the_same(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "long.flac", tone(9.0), codec="flac")
    every = [item for item in read([path]) if isinstance(item, MediaWindow)]
    rest = [item for item in read([path], done=lambda index: {0.0, 4.0}) if isinstance(item, MediaWindow)]
    assert [clip.start for clip in rest] == [2.0, 6.0, 8.0]
    assert all(alike(clip, every[int(clip.start // 2)]) for clip in rest)


@pytest.mark.slow
def test_a_reader_that_is_given_up_leaves_no_process_and_no_thread(tmp_path: Path) -> None:
    files = [write_audio(tmp_path / f"{i}.wav", tone(0.5)) for i in range(30)]
    before = threading.active_count()
    items = iter(IsolatedReader(READER, files))
    next(items)
    assert workers()
    del items
    gc.collect()
    deadline = time.monotonic() + 20
    while (workers() or threading.active_count() > before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not workers()
    assert threading.active_count() == before


def test_sources_are_read_as_they_are_needed_and_their_mistakes_end_the_run() -> None:
    def sources() -> Any:
        yield tone(0.2)
        raise AssertionError("our own mistake")

    with pytest.raises(AssertionError, match="our own mistake"):
        read(sources(), 48000)


@pytest.mark.slow
def test_no_thread_outlives_the_program_whose_reader_nobody_closed(tmp_path: Path) -> None:
    """One that let go of a tensor while the interpreter ends would abort the process."""
    write_audio(tmp_path / "a.wav", tone(0.5))
    script = """
import atexit, sys, threading
atexit.register(lambda: print(sorted(thread.name for thread in threading.enumerate())))  # the last of them to be called
from peav.features.decode import Cut, decode_each, decode_task
place = sys.argv[1]
clips = decode_each((decode_task(place, None, None, None, Cut(1, 8, 1.0)) for _ in range(10_000)), 1.0, 2)
next(clips)
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "a.wav"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "['MainThread']\n"), done.stderr


DRIVER = """
import sys, time
from peav.inference.isolation import IsolatedReader
from peav.inference.sources import WindowReader
items = iter(IsolatedReader(WindowReader("any", 2.0, 48000, 1920, 32, 4, 10_000), sys.argv[1:]))
next(items)
print("reading", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("hostile")
@pytest.mark.skipif(sys.platform != "linux", reason="tells parents by /proc")
def test_workers_die_with_a_driver_that_is_killed_even_from_within_a_hang(tmp_path: Path) -> None:
    files = [write_audio(tmp_path / f"{name}.wav", tone(0.2)) for name in ("a", "hang1", "hang2", "hang3", "hang4")]
    command = [sys.executable, "-c", DRIVER, *map(str, files)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"reading\n"
        children = Path(f"/proc/{driver.pid}/task").glob("*/children")
        pids = [int(pid) for child in children for pid in child.read_text().split()]
        assert pids
        driver.kill()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_worker_for_sound_loads_no_torch(tmp_path: Path) -> None:
    code = "import sys, peav.utils.worker, peav.inference.isolation; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "False\n"


def test_limits_come_from_the_environment_or_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEAV_DECODE_MEMORY", "1000")
    assert TaskLimits.from_environment() == TaskLimits(memory=1000)
    for wrong in ("0", "-1", "many"):
        monkeypatch.setenv("PEAV_DECODE_MEMORY", wrong)
        with pytest.raises(ValueError, match=f"PEAV_DECODE_MEMORY={wrong}: give a positive int"):
            TaskLimits.from_environment()
