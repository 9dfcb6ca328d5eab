"""Manifests of millions of rows: making the table, the first batch, every other step, memory.

    python benchmarks/manifests.py --rows 10000000        (needs about 8 GB of disk, which it gives back)

Writes a Parquet manifest of so many generated rows, makes its table as `peav train` does, and then, in a process of its
own that finds the table, draws batches: the wall time from the start of the process to the rows of its first batch, the
time of a step's order and of the rows of one of 48 processes, and RssAnon (mapped pages are not counted: the system
takes them back). `--orders 100000000` draws steps of a source of so many clips, without rows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from peav.data.permutation import Permutation
from peav.data.sampler import MixtureSampler
from peav.data.table_index import FACTS, IndexWriter
from peav.data.tabulate import find_table, make_table

BATCH, PROCESSES = 3024, 48  # as the paper's, and as many processes
PART = 500_000
KINDS = ("audio", "video", "audio_video")
WORDS = np.array(
    ["a", "the", "dog", "cat", "train", "bell", "rain", "wind", "engine", "barks", "sings", "rings", "falls"]
)


def memory(name: str = "RssAnon") -> float:
    """Of this process, in GB, by its name in /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1e6


def columns(first: int, count: int) -> pa.Table:
    """Rows as of a large data set: an id, a path, a window, a caption of each kind and two that a machine wrote."""
    rng = np.random.default_rng(first)
    numbers = np.arange(first, first + count)
    texts = [" ".join(words) for words in WORDS[rng.integers(len(WORDS), size=(4096, 8))]]

    def captions(each: int) -> pa.Array:
        ends = np.arange(0, count * each + 1, each, dtype=np.int32)
        said = [pa.array(texts).take(pa.array(rng.integers(len(texts), size=count * each))) for _ in KINDS]
        return pa.StructArray.from_arrays([pa.ListArray.from_arrays(ends, one) for one in said], KINDS)

    start = rng.uniform(0, 300, count).round(2)
    sources, splits = pa.array([f"set {n}" for n in range(20)]), pa.array(["train", "validation", "test"])
    return pa.table(
        {
            "id": [f"youtube/{n:010d}" for n in numbers],
            "path": [f"clips/{n // 10_000:06d}/{n:010d}.mp4" for n in numbers],
            "start": start,
            "end": start + rng.choice([1.5, 4.0, 10.0, 30.0], count),
            "captions": captions(1),
            "synthetic": captions(2),
            "transcript": pa.array([None, "hello there"]).take(pa.array(rng.integers(2, size=count))),
            "split": splits.take(pa.array(rng.choice(3, size=count, p=[0.998, 0.001, 0.001]))),
            "source": sources.take(pa.array(rng.integers(20, size=count))),
            "license": pa.array(["CC-BY-4.0"] * count),
        }
    )


def generate(path: Path, rows: int) -> None:
    """The manifest."""
    writer = None
    for first in range(0, rows, PART):
        part = columns(first, min(PART, rows - first))
        writer = writer or pq.ParquetWriter(path, part.schema)
        writer.write_table(part, row_group_size=2**17)
    if writer is not None:
        writer.close()


def timed(work: Callable[[int], object], times: int = 50) -> dict[str, float]:
    """Milliseconds of `work(k)`: median and largest, of wall time, and the median of CPU time."""
    wall, cpu = [], []
    for k in range(times):
        began, busy = time.perf_counter(), time.process_time()
        work(k)
        wall.append(1e3 * (time.perf_counter() - began))
        cpu.append(1e3 * (time.process_time() - busy))
    return {
        "median": round(statistics.median(wall), 2),
        "max": round(max(wall), 2),
        "cpu": round(statistics.median(cpu), 2),
    }


def draw(manifest: str, cache: str) -> dict[str, object]:
    """In a process of its own: the first batch, and others."""
    table = find_table([manifest], cache)
    assert table is not None
    rows = table.where(lambda group: group.trains)
    sampler = MixtureSampler([len(rows)], [1.0], BATCH, 0, large=0)
    whole = [rows[index] for _, index in sampler.batch(0)]
    found = time.clock_gettime(time.CLOCK_BOOTTIME) - int(Path("/proc/self/stat").read_text().split()[21]) / 100
    busy = time.process_time()
    own = BATCH // PROCESSES
    steps = itertools.count(1)

    def step(_: int) -> None:
        for _, index in sampler.batch(9973 * next(steps))[:own]:
            rows[index]

    return {
        "rows": len(rows),
        "seconds to the rows of a first batch of 3024": round(found, 2),
        "CPU seconds of it": round(busy, 2),
        "order of a step, ms": timed(lambda k: sampler.batch(9973 * k)),
        f"order and {own} rows of a step, ms": timed(step),
        "RssAnon, GB": round(memory(), 3),
        "different clips": len({row.id for row in whole}),
        "group": str(rows.groups[0])[:100],
    }


def orders(clips: int, folder: Path) -> None:
    """Prints what a sampler and an index of so many clips cost, without rows."""
    sampler = MixtureSampler([clips], [1.0], BATCH, 0)
    said("order of a step, ms", timed(lambda k: sampler.batch(9973 * k)))
    said("RssAnon of the sampler, GB", round(memory(), 3))
    rng, began, busy = np.random.default_rng(0), time.perf_counter(), time.process_time()
    with IndexWriter(folder) as index:
        for first in range(0, clips, 2**16):
            index.add(facts(first, min(2**16, clips - first), rng))
    groups = index.finish()
    assert not list(index.repeated())
    cost = {"s": round(time.perf_counter() - began, 1), "CPU s": round(time.process_time() - busy, 1)}
    said("index", cost | {"groups": len(groups), "bytes": (folder / "order.u32").stat().st_size})
    said("RssAnon of the index, GB", round(memory(), 3))
    seen = np.zeros(clips, bool)
    order, began = Permutation(clips, (0, 0, 0)), time.perf_counter()
    for first in range(0, clips, 2**20):
        seen[order(np.arange(first, min(first + 2**20, clips)))] = True
    said("every clip comes once in an epoch", bool(seen.all()))
    said("a whole epoch, s", round(time.perf_counter() - began, 1))


def said(name: str, value: object) -> None:
    """A line, as soon as it is known."""
    print(f"{name}: {value}", flush=True)


def facts(first: int, count: int, rng: np.random.Generator) -> pa.RecordBatch:
    """What an index is told of generated rows."""
    names = pa.array([f"set {n}" for n in range(20)])
    values = {
        "id": pa.array(np.arange(first, first + count)).cast(pa.string()),
        "split": pa.array(["train"] * count),
        "source": names.take(pa.array(rng.integers(20, size=count))),
        "fold": pa.nulls(count, pa.int64()),
        "seconds": rng.choice([1.5, 4.0, 10.0, 30.0], count),
        "audio_path": np.ones(count, bool),
        "video_path": np.ones(count, bool),
        "transcript": rng.integers(2, size=count).astype(bool),
        "license": pa.array(["CC-BY-4.0"] * count),
    }
    return pa.RecordBatch.from_pydict(values, schema=FACTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--orders", type=int)
    parser.add_argument("--draw", nargs=2, metavar=("MANIFEST", "CACHE"))
    asked = parser.parse_args()
    if asked.draw:
        print(json.dumps(draw(*asked.draw)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.orders:
            orders(asked.orders, folder)
            return
        manifest, cache = folder / "m.parquet", folder / "cache"
        generate(manifest, asked.rows)
        said("manifest, GB", round(manifest.stat().st_size / 1e9, 2))
        began, busy, most = time.perf_counter(), time.process_time(), 0.0

        def note(_: int) -> None:
            nonlocal most
            most = max(most, memory())

        table = make_table([str(manifest)], cache, note)
        size = sum(path.stat().st_size for path in table.folder.iterdir())
        cost = f"{time.perf_counter() - began:.1f} s, {time.process_time() - busy:.1f} CPU s, {size / 1e9:.2f} GB"
        said("table", f"{cost}, RssAnon at most {most:.2f} GB, {len(table.groups)} groups")
        command = [sys.executable, __file__, "--draw", str(manifest), str(cache)]
        print(json.dumps(json.loads(subprocess.run(command, check=True, capture_output=True).stdout), indent=1))


if __name__ == "__main__":
    main()
