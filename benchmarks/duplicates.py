"""What finding duplicates over a whole run costs.

    python benchmarks/duplicates.py [CLIPS]     a million by default

Random hashes of sound and frames; 2 % repeat an earlier clip with 12 bits of 256 changed, 1 % are one and the same.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator

import numpy as np

from peav.engine.duplicates import duplicates

LOT = 1000


def summaries(clips: int) -> Iterator[dict[str, dict[str, str | None]]]:
    """As partitions give them; made as they are asked for."""
    rng = np.random.default_rng(0)
    earlier: np.ndarray | None = None
    for first in range(0, clips, LOT):
        hashes = rng.integers(0, 256, (min(LOT, clips - first), 2, 32), dtype=np.uint8)
        if earlier is not None and len(hashes) == LOT:
            places = rng.choice(LOT, 30, replace=False)
            hashes[places[:20]] = earlier[rng.integers(0, LOT, 20)]
            for place in places[:20]:
                for flips in hashes[place]:
                    bits = np.zeros(256, np.uint8)
                    bits[rng.choice(256, 12, replace=False)] = 1
                    flips ^= np.packbits(bits)
            hashes[places[20:]] = earlier[0]
        earlier = hashes.copy()
        yield {
            f"id{(first + place) * 7919 % clips:08d}": {
                "audio": audio.tobytes().hex(),
                "frames": frames.tobytes().hex(),
                "space": None,
                "embedding": None,
            }
            for place, (audio, frames) in enumerate(hashes)
        }


def main() -> None:
    clips = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    began = time.process_time()
    for _ in summaries(clips):
        pass
    making = time.process_time() - began
    began = time.process_time()
    found = duplicates(summaries(clips))
    seconds = time.process_time() - began - making
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{clips} clips: {len(found)} repeat others; {seconds:.1f} s of processor time, {peak:.0f} MB at the peak")


if __name__ == "__main__":
    main()
