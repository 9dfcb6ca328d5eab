"""Which windows find a moment in a long recording best, and at what cost.

    python benchmarks/moments.py                              tiny; windows of 30, 10 and 5 s, also overlapping
    python benchmarks/moments.py --model DIRECTORY --windows 10 5/2.5    5 s, a window every 2.5 s

The mixtures of a manifest with timed events are joined into recordings of ten minutes, from the middle of the first
one on, so that windows do not line up with mixtures. Each label is searched for, as it is written, in each recording
that has it. Hit: the window that scores highest overlaps one of its events. By chance: the share of windows that
overlap one. Filled: how much of the best window the event takes up. In 30 s: one of the best windows, as many as play
for 30 s, overlaps one. CPU seconds: of embedding everything.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import peav
from peav.encoder import Encoder
from peav.media import load_audio
from peav.search import make_query

RATE = 48000
SECONDS = 10  # of a mixture


@dataclass(frozen=True)
class Recording:
    """(S,) samples at 48 kHz, and `(onset, offset, label)` of the events in them, in seconds."""

    samples: np.ndarray
    events: list[tuple[float, float, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/sed_mix"))
    parser.add_argument("--windows", nargs="+", default=["30", "10", "10/5", "5", "5/2.5"])
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    encoder = peav.load(options.model, device="cpu")
    recordings = list(joined(options.data, options.minutes))
    table = Table(
        "window", "windows", "hit", "by chance", "filled", "in 30 s", "CPU s", title=f"{options.model}: moments"
    )
    for text in options.windows:
        length, _, step = text.partition("/")
        table.add_row(text, *figures(encoder, recordings, float(length), float(step or length)))
    Console().print(table)


def joined(data: Path, minutes: float) -> Iterator[Recording]:
    """The mixtures of `data` in a row, in recordings of so many minutes."""
    rows = [json.loads(line) for line in (data / "manifest.jsonl").open()]
    count, skipped = round(minutes * 60 / SECONDS), 0.4 * SECONDS
    for first in range(0, len(rows), count):
        part = rows[first : first + count]
        sounds = [load_audio(data / one["path"], sampling_rate=RATE) for one in part]
        samples = np.concatenate([np.pad(sound, (0, SECONDS * RATE))[: SECONDS * RATE] for sound in sounds])
        events = [
            (max(0.0, event["onset"] + begin), event["offset"] + begin, event["label"].replace("_", " "))
            for begin, one in zip(np.arange(len(part)) * SECONDS - skipped, part, strict=True)
            for event in one["events"]
            if event["offset"] + begin > 0
        ]
        yield Recording(samples[round(skipped * RATE) :], events)


def figures(encoder: Encoder, recordings: list[Recording], length: float, step: float) -> list[str]:
    """A row of the table, for windows of `length` seconds that start every `step` seconds."""
    hits, chances, filled, listened = [], [], [], []
    windows, spent = 0, 0.0
    for one in recordings:
        seconds = len(one.samples) / RATE
        starts = np.arange(0, max(seconds - length, 0) + 1e-6, step)
        began = time.process_time()
        embeddings = encoder.encode_audio(
            [one.samples[round(start * RATE) : round((start + length) * RATE)] for start in starts],
            sampling_rate=RATE,
            window=None,
            batch_size=max(1, int(60 / length)),
        )
        spent += time.process_time() - began
        windows += len(starts)
        for label in sorted({label for _, _, label in one.events}):
            events = [(onset, offset) for onset, offset, name in one.events if name == label]
            shares = np.array([shared(start, start + length, events) for start in starts])
            scores = make_query(encoder, label, space="audio").vectors["audio"].scores(embeddings)
            best = np.argsort(-scores, kind="stable")
            hits.append(shares[best[0]] > 0)
            chances.append((shares > 0).mean())
            filled.append(shares[best[0]])
            listened.append((shares[best[: round(30 / length)]] > 0).any())
    percent = [f"{100 * np.mean(values):.1f} %" for values in (hits, chances, filled, listened)]
    return [str(windows), f"{percent[0]} of {len(hits)}", *percent[1:], f"{spent:.0f}"]


def shared(start: float, end: float, events: list[tuple[float, float]]) -> float:
    """The share of a window that the longest of the events in it takes up."""
    return max(max(0.0, min(end, offset) - max(start, onset)) for onset, offset in events) / (end - start)


if __name__ == "__main__":
    main()
