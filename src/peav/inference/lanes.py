"""Work side by side on a CPU: small batches do not keep several cores busy one after the other.

A small model's operations are too short to be worth sharing among threads, and a batch waits at each of them for the
slowest. So independent batches run in lanes, threads of which each has its share of torch's own.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier
from typing import TypeVar

import torch

MOST_LANES = 4  # each lane holds the activations of a batch of its own
Item = TypeVar("Item")
Made = TypeVar("Made")


def in_lanes(work: Callable[[Item], Made], items: Iterable[Item], device: torch.device) -> Iterator[Made]:
    """`map(work, items)`, on a CPU with several items at a time; the next ones are begun while a result is looked at.

    Args:
        work: may be called from several threads at once.
        device: that `work` computes on. On any but a CPU, and where torch has one thread, it is just `map`.
    """
    threads = torch.get_num_threads()
    lanes = min(threads, MOST_LANES) if device.type == "cpu" else 1
    if lanes < 2:
        yield from map(work, items)
        return
    executor = _executor(lanes, threads)
    waiting: deque[Future[Made]] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(work, item))
            if len(waiting) > lanes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


# Kept, so that several callers share the lanes instead of the cores, and threads are set up once.
@lru_cache(maxsize=1)
def _executor(lanes: int, threads: int) -> ThreadPoolExecutor:
    executor, ready = ThreadPoolExecutor(lanes, "peav lane"), Barrier(lanes + 1)

    def begin() -> None:
        torch.get_num_threads()  # a thread's first question takes over the number that was set last, in any thread
        torch.set_num_threads(threads // lanes)  # of this thread
        ready.wait()

    for _ in range(lanes):
        executor.submit(begin)
    ready.wait()
    torch.set_num_threads(threads)  # the last number that was set is that of threads to come
    return executor


if hasattr(os, "register_at_fork"):  # a forked process has none of the threads
    os.register_at_fork(after_in_child=_executor.cache_clear)
