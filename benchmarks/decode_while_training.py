"""Clips a second of training that decodes as it goes, against decoding alone: same clips, same workers, same cores.

    python benchmarks/decode_while_training.py [--workers 1] [--clips 48] [--steps 60] [--batch 8]

The model is as small as can be while it takes real frames (16 of 336 x 336 pixels a clip), so that decoding is what the
run waits for. Workers are kept on the last cores of the machine, the training process on the first one. Decoding alone
is timed before and after, over as many clips; training from step 20 on. CPU seconds of the workers are given too: on a
machine that does other work they say more than the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from peav.data.manifest import Row, read_manifest, write_manifest
from peav.features.decode import Cut, decode_each, decode_task
from peav.inference.tokenizer import train_tokenizer
from peav.media.write import write_media

FRAMES, SIZE, SECONDS, FPS, SKIP = 16, 336, 5, 12, 20


def pin(_label: str) -> None:
    """Keep a worker on the cores that are its own; called in the worker, before each of its tasks."""
    os.sched_setaffinity(0, set(map(int, os.environ["BENCHMARK_CORES"].split(","))))


def make_clips(folder: Path, count: int) -> Path:
    """Pictures that move, with noise, and a tone."""
    records = []
    for number in range(count):
        rng = np.random.default_rng(number)
        picture = np.kron(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
        frames = [np.roll(picture, 4 * index, 1) for index in range(SECONDS * FPS)]
        tone = np.sin(2 * np.pi * (200 + 20 * number) * np.arange(SECONDS * 48_000) / 48_000).astype(np.float32) / 4
        write_media(folder / f"{number}.mp4", "mp4", audio=[tone], video=frames, fps=FPS)
        records.append({"id": str(number), "path": f"{number}.mp4", "text": f"pattern {number}"})
    write_manifest(folder / "manifest.jsonl", records)
    return folder / "manifest.jsonl"


def save_model(folder: Path) -> None:
    """A model that takes whole frames and does next to nothing with them."""
    from peav.checkpoint import save_pretrained
    from peav.model import PEAV, PEAVConfig
    from peav.model.config import (
        AudioConfig,
        CodecConfig,
        FrameEncoderConfig,
        TextConfig,
        TransformerConfig,
        VideoConfig,
    )

    tower = TransformerConfig(8, 8, 1, 1, head_dim=8)
    frame_encoder = FrameEncoderConfig(SIZE, 168, 8, 1, 2, output_dim=8, pool_heads=2)
    model = PEAV(
        PEAVConfig(
            audio=AudioConfig(CodecConfig(hidden_size=1, strides=(12, 16, 10), latent_dim=8), tower),
            video=VideoConfig(frame_encoder, tower, FRAMES),
            fusion=tower,
            text=TextConfig(400, 8, 8, 1, 2, pad_token_id=0, cls_token_id=1, sep_token_id=2),
            output_dim=8,
        )
    )
    save_pretrained(model, folder, train_tokenizer(["pattern 0123456789"], 400))


def children_seconds() -> float:
    """CPU seconds of the workers that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def alone(rows: list[Row], count: int, workers: int) -> tuple[float, float]:
    """Clips a second of decoding and nothing else, once the workers are warm, and CPU seconds a clip."""
    cut, before = Cut(FRAMES, SIZE, float(SECONDS)), children_seconds()
    chosen = [rows[number % len(rows)] for number in range(count)]
    tasks = (decode_task(row.audio_path, row.video_path, row.start, row.end, cut) for row in chosen)
    warm = count // 4
    for number, _ in enumerate(decode_each(tasks, SECONDS, workers)):
        if number == warm:
            began = time.perf_counter()
    rate = (count - warm - 1) / (time.perf_counter() - began)
    return rate, (children_seconds() - before) / count


class Quiet:
    """Reports nothing."""

    def stage(self, name: str, total: int | None) -> None: ...
    def advance(self, done: int, note: str = "") -> None: ...
    def step(self, record: object) -> None: ...


def trained(folder: Path, manifest: Path, steps: int, batch: int, workers: int) -> list[dict]:
    """The log of a run."""
    from peav.train import train
    from peav.train.recipe import recipe_of

    save_model(folder / "start")
    recipe = {
        "name": "benchmark",
        "model": str(folder / "start"),
        "output": str(folder / "run"),
        "data": {"cache": str(folder), "sources": [{"place": str(manifest)}], "decode": {"workers": workers}},
        "objective": {"pairs": "finetune"},
        "optim": {"steps": steps, "batch_size": batch, "bf16": False},
        "evaluation": {"every": steps},
        "checkpoint_every": steps,
    }
    train(recipe_of(recipe), Quiet())
    return [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("workers", 1), ("clips", 48), ("steps", 60), ("batch", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    own, theirs = cores[:1], cores[-asked.workers :]
    os.environ |= {"PEAV_WORKER_HOOK": "decode_while_training:pin", "BENCHMARK_CORES": ",".join(map(str, theirs))}
    os.sched_setaffinity(0, set(own))
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = make_clips(folder, asked.clips)
        rows = read_manifest(manifest)
        counted = (asked.steps - SKIP) * asked.batch
        before, cpu = alone(rows, counted, asked.workers)
        began = children_seconds()
        log = trained(folder, manifest, asked.steps, asked.batch, asked.workers)[SKIP:]
        spent = children_seconds() - began
        after, _ = alone(rows, counted, asked.workers)
    seconds = sum(record["seconds"] for record in log)
    rate, decoding = sum(record["clips"] for record in log) / seconds, statistics.mean([before, after])
    found = {
        "cores of workers": theirs,
        "core of training": own,
        "decoding alone, clips a second": [round(before, 2), round(after, 2)],
        "training, clips a second": round(rate, 2),
        "share": round(rate / decoding, 3),
        "CPU seconds a clip, alone": round(cpu, 4),
        "CPU seconds of workers in training": round(spent, 1),
        "waiting, share of step time": round(sum(record["wait"] for record in log) / seconds, 3),
        "queue, median": statistics.median(record["queue"] for record in log),
        "load of the machine": [round(value, 1) for value in os.getloadavg()],
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
