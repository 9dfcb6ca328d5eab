"""Partitions worked on by Ray, on one machine or a cluster: Ray places, the commit protocol stays ours.

A partition is one task of an actor. An actor keeps its models from one partition to the next, takes a fraction of a
processor or of a GPU, and is replaced where it dies; it dies with the driver, as all of a Ray job does. The run's
folder must be one that every node can write to.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import replace
from itertools import count, islice
from typing import Any

from peav.engine.runner import Runner
from peav.engine.work import Job, Progress, Task, work
from peav.errors import PeavError
from peav.utils.workers import WorkerFailure

AHEAD = 2  # partitions that an actor holds: one in work, one that waits


class RayError(PeavError):
    """Ray is not there, or has not what was asked for."""


@contextmanager
def on_ray(
    address: str | None, actors: int | None = None, num_cpus: float = 1.0, num_gpus: float = 0.0
) -> Iterator[Runner]:
    """A runner of actors, to be used within the block; a Ray that was started for it ends with it.

    Ray prints what dies to standard output, which is for results: within the block that goes to standard error.

    Args:
        address: of a cluster, `auto` for the one that runs here, `local` for one of this process's own.
        actors: how many; None: as many as the cluster's processors, and GPUs where they take any, have room for.
        num_cpus, num_gpus: that an actor takes, which may be fractions.

    Raises:
        RayError: Ray is not installed, cannot be reached, or has no room for one actor.
    """
    try:
        import ray
    except ImportError as error:
        raise RayError("captioning on Ray needs Ray: pip install 'peav[ray]'") from error

    def run(job: Job, tasks: Iterable[Task]) -> Iterator[Progress | tuple[Task, Exception | None]]:
        actor = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_restarts=0)(_Actor)
        pool: list[Any] = [actor.remote() for _ in range(actors or _room(ray, num_cpus, num_gpus))]
        job = replace(job, workers=len(pool))
        try:
            yield from _work(ray, actor, pool, job, iter(tasks))
        finally:
            for one in pool:
                ray.kill(one)

    ours = not ray.is_initialized()
    with redirect_stdout(sys.stderr):
        if ours:
            _start(ray, address)
        try:
            yield run
        finally:
            if ours:
                ray.shutdown()


class _Actor:
    """Works on partitions, one after the other."""

    def work(self, job: Job, task: Task) -> tuple[list[Progress], Exception | None]:
        """A partition's progress, and what stopped it."""
        try:
            return list(work(job, task)), None
        except Exception as error:
            return [], error


def _work(
    ray: Any, actor: Any, pool: list[Any], job: Job, tasks: Iterator[Task]
) -> Iterator[Progress | tuple[Task, Exception | None]]:
    """Each actor has at most `AHEAD` partitions; the next one is read when one is done."""
    running: dict[Any, tuple[int, int, Task]] = {}  # by its reference: number in the order of giving, actor, task
    numbers = count()

    def give(place: int, given: Iterable[Task]) -> None:
        for task in given:
            running[pool[place].work.remote(job, task)] = (next(numbers), place, task)

    for place in range(len(pool)):
        give(place, islice(tasks, AHEAD))
    while running:
        (ref,), _ = ray.wait(list(running), num_returns=1)
        _, place, task = running[ref]
        try:
            progress, error = ray.get(ref)
            del running[ref]
        except ray.exceptions.RayError as died:
            # The oldest that the actor held took it along; what waited behind it goes to the actor's successor.
            held = sorted((number, one) for one, (number, at, _) in running.items() if at == place)
            task, *waiting = [running.pop(one)[2] for _, one in held]
            pool[place] = actor.remote()
            give(place, waiting)
            progress, error = [], WorkerFailure("crash", f"its actor died ({type(died).__name__})")
        yield from progress
        yield task, error
        give(place, islice(tasks, 1))


def _start(ray: Any, address: str | None) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False)
    except Exception as error:  # of many kinds: no such cluster, another version, no memory
        raise RayError(
            f"Ray at {address or 'local'} cannot be reached: {error}; is it running (ray status)?"
        ) from error
    with suppress(ValueError):  # not in the main thread: then Ray has set none
        signal.signal(signal.SIGTERM, before)  # Ray's would end the process without a word of what is kept


def _room(ray: Any, num_cpus: float, num_gpus: float) -> int:
    there = ray.cluster_resources()
    rooms = [there.get(kind, 0.0) // most for kind, most in (("CPU", num_cpus), ("GPU", num_gpus)) if most]
    if not rooms or min(rooms) < 1:
        raise RayError(f"no room for an actor of {num_cpus:g} processors and {num_gpus:g} GPUs: Ray has {there}")
    return int(min(rooms))
