"""Memory and time of the codec against the length of its input, at the width of `tiny`.

    python benchmarks/codec_memory.py            (about five minutes on one processor core)

Prints the most memory of its own, above what the process held before, waveform excluded, latents included.
"""

from __future__ import annotations

import argparse

import torch
from rich.console import Console
from rich.table import Table

from peav.bench.measure import Watch
from peav.model import PEAV, preset


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
