"""Memory and time of the codec against the length of its input, at the width of `tiny`.

    python benchmarks/codec_memory.py            (about five minutes on one processor core)

Prints the largest resident set above what the process held before, waveform excluded, latents included.
"""

from __future__ import annotations

import argparse
import threading
import time

import psutil
import torch
from rich.console import Console
from rich.table import Table

from peav.model import PEAV, preset


class Watch:
    """`peak` bytes of resident memory above the start, and `seconds` of CPU time, of the block."""

    def __enter__(self) -> Watch:
        self.process, self.peak, self.running = psutil.Process(), 0, True
        self.base, self.began = self.process.memory_info().rss, time.process_time()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while self.running:
            self.peak = max(self.peak, self.process.memory_info().rss - self.base)
            time.sleep(0.005)

    def __exit__(self, *_: object) -> None:
        self.seconds = time.process_time() - self.began
        self.running = False
        self.thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, nargs="+", default=[1, 10, 60])
    minutes = parser.parse_args().minutes
    torch.set_num_threads(1)
    codec = PEAV(preset("tiny")).audio.codec.eval().requires_grad_(False)
    hop = codec.config.hop_length
    codec(torch.zeros(1, 25 * hop))
    table = Table("minutes", "extra memory", "CPU seconds a minute", title="codec of tiny, one thread")
    for length in minutes:
        waveform = torch.randn(1, length * 60 * 25 * hop) * 0.1
        with Watch() as watch:
            codec(waveform)
        table.add_row(str(length), f"{watch.peak / 1e9:.3f} GB", f"{watch.seconds / length:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
