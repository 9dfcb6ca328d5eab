"""Files a minute from end to end, with one core and with all of them, and what of it is decoding."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from peav.encoder import Encoder
from peav.inference.isolation import IsolatedReader
from peav.media.write import RATE, write_media
from peav.search.embed import embed_files

DIFFERENT, SECONDS, FPS = 8, 3, 25  # clips of 320 x 240 with sound


@dataclass(frozen=True)
class Run:
    """One pass over some files: seconds of the clock, and processor seconds of this process and of its workers."""

    cores: int
    files: int
    wall: float
    model: float
    workers: float

    def to_dict(self) -> dict[str, float]:
        """With what follows from them."""
        used = self.model + self.workers
        shares = {"cpu_seconds_a_file": used / self.files, "files_a_minute": 60 * self.files / self.wall}
        return vars(self) | shares


def write_clips(folder: Path, count: int) -> list[Path]:
    """Short clips of moving noise and a tone; the same few under many names."""
    made: list[Path] = []
    for number in range(count):
        path = folder / f"clip{number:05d}.mp4"
        if number < DIFFERENT:
            random = np.random.default_rng(number)
            picture = np.kron(random.integers(0, 256, (30, 40, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
            frames = (np.roll(picture, 3 * i, 1) for i in range(SECONDS * FPS))
            hertz = random.uniform(200, 2000)
            tone = (0.25 * np.sin(2 * np.pi * hertz * np.arange(SECONDS * RATE) / RATE)).astype(np.float32)
            write_media(path, "mp4", audio=[tone], video=frames, fps=FPS)
        else:
            os.link(made[number % DIFFERENT], path)
        made.append(path)
    return made


def file_runs(encoder: Encoder, count: int) -> dict[str, Run]:
    """`decode` alone with all cores, and `embed` with one core and with all, over `count` short clips."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_clips(Path(folder), count)

        def embed() -> None:
            embed_files(encoder, paths, Path(folder) / "library.parquet", resume=False)

        def decode() -> None:
            with IsolatedReader(encoder.reader("any", 5.0), paths) as items:
                for _ in items:
                    pass

        runs = {"decode": _run(decode, count)}
        with one_core():
            runs["embed, one core"] = _run(embed, count)
        return runs | {"embed, all cores": _run(embed, count)}


@contextmanager
def one_core() -> Iterator[None]:
    """Within the block this thread, and what it starts, has one core and torch one thread."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {min(cores)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def _run(work: Callable[[], None], files: int) -> Run:
    began, before = time.monotonic(), [_used(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    work()
    after = [_used(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own, workers = (b - a for a, b in zip(before, after, strict=True))
    return Run(len(os.sched_getaffinity(0)), files, time.monotonic() - began, own, workers)


def _used(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime
