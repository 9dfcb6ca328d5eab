"""Seconds, operations, memory, and what the machine could do at best."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

Work = Callable[[], object]
CPU_SIDE, GPU_SIDE = 1024, 8192  # of the square matrices that tell the peak
LOOK = 0.002  # seconds between two looks at the memory


def seconds(work: Work, device: torch.device) -> float:
    """What a call takes: processor time of all threads on a CPU, so that other jobs do not count; else the clock's."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    wait(device)
    began = clock()
    work()
    wait(device)
    return clock() - began


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def alternated(works: Mapping[str, Work], repeats: int, device: torch.device) -> dict[str, float]:
    """The median seconds of each, one after the other and again, so that what the machine does beside is on all."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():  # a first time to warm up
        work()
    for _ in range(repeats):
        for name, work in works.items():
            taken[name].append(seconds(work, device))
    return {name: median(values) for name, values in taken.items()}


def matrix_product(device: torch.device, dtype: torch.dtype) -> tuple[Work, float]:
    """A product of two square matrices, and its operations."""
    side = CPU_SIDE if device.type == "cpu" else GPU_SIDE
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return lambda: torch.mm(a, b), 2.0 * side**3


def operations(work: Work) -> float:
    """Those of matrix products, convolutions and attention in one call, backward passes included."""
    # By attention's formula: not all of its kernels are known to the counter.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return float(counter.get_total_flops())


def peak_memory(work: Work, device: torch.device) -> int:
    """The most bytes that a call holds above what was held before."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with Watch() as watch:
        work()
    return watch.peak


class Watch:
    """`peak` bytes of this process's own memory above the start, and `seconds` of processor time, of the block."""

    def __enter__(self) -> Watch:
        self.peak, self.running = 0, True
        # What was freed goes back to the system, or a call that takes it again would seem to need nothing.
        with suppress(OSError, AttributeError):  # of glibc alone
            ctypes.CDLL(None).malloc_trim(0)
        self.base, self.began = held(), time.process_time()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while self.running:
            self.peak = max(self.peak, held() - self.base)
            time.sleep(LOOK)

    def __exit__(self, *_: object) -> None:
        self.seconds = time.process_time() - self.began
        self.running = False
        self.thread.join()


def held() -> int:
    """Bytes of this process's own memory: without pages of mapped files. 0 where there is no /proc."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024
