"""./run long fuzz [--count 20000]: damaged files by the thousand; only a MediaError may come out of reading them.

Prints the table for docs/checks.md. A file that crashes or hangs the process that reads it is counted against that
file, and another process goes on. Ends with 1 where anything but a result or a MediaError came out, where fewer than
a third of the mutants still decode, or where memory grows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
from media import mutants  # noqa: E402

SECONDS = 120.0  # of the clock between two looks at a mutant that takes long
CPU_SECONDS = 30.0  # of processor time that a mutant of five seconds may take
IDLE = 1 / 300  # of the processor: who gets less between two looks has hung, and is not just on a busy machine
PEAK = 1500.0  # megabytes: a worker may take 4096
SETTLED = 500  # mutants after which memory is expected to stay as it is
GROWTH = 20.0  # megabytes per 1000 mutants


@dataclass
class Result:
    """What came out of a campaign."""

    seed: int
    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # by suffix
    kinds: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # "container" and "codec"
    others: list[str] = field(default_factory=list)
    held: dict[int, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))  # by process
    slowest: float = 0.0
    peak: float = 0.0

    @property
    def count(self) -> int:
        return sum(counter.total() for counter in self.outcomes.values())

    @property
    def decoded(self) -> float:
        """The share of mutants of which something is still decoded."""
        return sum(counter["decoded"] for counter in self.outcomes.values()) / self.count

    @property
    def growth(self) -> float | None:
        """Megabytes of RssAnon per 1000 mutants in the process that read most of them; None for too few to tell."""
        longest = max(self.held.values(), key=len, default=[])[SETTLED:]
        if len(longest) < SETTLED:
            return None
        number, megabytes = np.arange(len(longest)), [value for _, value in longest]
        return float(np.polyfit(number, megabytes, 1)[0] * 1000)

    def add(self, number: int, about: dict[str, Any], end: dict[str, Any], process: int) -> None:
        outcome = end["outcome"]
        if end.get("seconds", 0.0) > CPU_SECONDS:
            outcome, end["what"] = "other", f"{end['seconds']:.0f} s of processor time"
        if end.get("peak", 0.0) > PEAK:
            outcome, end["what"] = "other", f"{end['peak']:.0f} MB of memory"
        self.outcomes[about["suffix"]][outcome] += 1
        self.kinds[about["kind"]][outcome] += 1
        if outcome == "other":
            other = f"mutant {number} of seed {self.seed} ({about['suffix']}): {end['what'].strip()}"
            self.others.append(other)
            print(f"{other}\n", file=sys.stderr, flush=True)
        if "held" in end:
            self.held[process].append((number, end["held"]))
            self.slowest = max(self.slowest, end["seconds"])
            self.peak = max(self.peak, end["peak"])


def campaign(count: int, seed: int, jobs: int = 1) -> Result:
    """Read `count` mutants in `jobs` processes at a time."""
    result, lock = Result(seed), threading.Lock()

    def work(job: int) -> None:
        number = job
        while number < count:
            number = _one_process(result, lock, range(number, count, jobs))

    with ThreadPoolExecutor(jobs) as threads:
        for _ in threads.map(work, range(jobs)):  # which raises what went wrong in one
            pass
    return result


def _one_process(result: Result, lock: threading.Lock, numbers: range) -> int:
    """Read mutants in a process until it ends, by itself or not; returns the number from which to go on."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [folder, str(result.seed), *(str(value) for value in (numbers.start, numbers.stop, numbers.step))]
        process = subprocess.Popen(
            [sys.executable, mutants.__file__, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stderr is not None
        about: dict[str, Any] | None = None
        for line in _lines(process):
            said = json.loads(line)
            if "number" in said:
                about = said
                continue
            assert about is not None
            with lock:
                result.add(about["number"], about, said, process.pid)
                if result.count % 500 == 0:
                    print(f"{summary(result)}\n", file=sys.stderr, flush=True)
            about = None
        code = process.wait()
        if about is None:
            if code:
                raise RuntimeError(f"the process that makes mutants ended with {code}: {process.stderr.read()}")
            return numbers.stop
        what = "hung, or was killed" if code == -9 else f"the process ended with {code}"
        with lock:
            result.add(about["number"], about, {"outcome": "other", "what": what}, process.pid)
        return int(about["number"]) + numbers.step


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """Lines of the process, which is killed where it hangs."""
    assert process.stdout is not None
    while True:
        came = threading.Event()
        watchdog = threading.Thread(target=_watch, args=(process, came), daemon=True)
        watchdog.start()
        line = process.stdout.readline()
        came.set()
        watchdog.join()
        if not line:
            return
        yield line


def _watch(process: subprocess.Popen[str], came: threading.Event) -> None:
    """Kill the process where its next line needs too much processor time, or where it stands still."""
    began = looked = _processor_seconds(process)
    while not came.wait(SECONDS):
        last, looked = looked, _processor_seconds(process)
        if looked - began > CPU_SECONDS or looked - last < SECONDS * IDLE:
            process.kill()
            return


def _processor_seconds(process: subprocess.Popen[str]) -> float:
    """What the process has used so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def summary(result: Result) -> str:
    """The campaign as Markdown."""
    growth = "too few to tell" if result.growth is None else f"{result.growth:.1f} MB per 1000 files after {SETTLED}"
    damage = ", ".join(
        f"{kind} bytes in {kinds.total()} ({kinds['decoded'] / kinds.total():.0%} decode)"
        for kind, kinds in sorted(result.kinds.items())
    )
    lines = [
        f"{result.count} mutants, seed {result.seed}, {len(result.outcomes)} suffixes; {result.decoded:.0%} still "
        f"decode; damage to {damage}. RssAnon of the decoding process: {growth}; at most {result.peak:.0f} MB "
        f"and {result.slowest:.1f} s of processor time for a file. "
        f"PyAV {av.__version__}, Python {platform.python_version()}, {os.cpu_count()} processors.",
        "",
        "| suffix | decoded | MediaError | other |",
        "|---|---|---|---|",
    ]
    for suffix, counter in sorted(result.outcomes.items()):
        lines.append(f"| {suffix} | {counter['decoded']} | {counter['MediaError']} | {counter['other']} |")
    total = sum(result.outcomes.values(), Counter())
    lines.append(f"| all | {total['decoded']} | {total['MediaError']} | {total['other']} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    result = campaign(asked.count, asked.seed, asked.jobs)
    print(summary(result))
    grown = result.growth is not None and result.growth > GROWTH
    return int(bool(result.others) or result.decoded < 1 / 3 or grown)


if __name__ == "__main__":
    sys.exit(main())
