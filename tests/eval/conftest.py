"""A random small model and real files to measure it on."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from peav.data.tokenizer import train_tokenizer
from peav.encoder import Encoder
from peav.model import PEAV
from peav.model.config import preset

RATE, FPS = 48000, 10


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(PEAV(preset("tiny")), train_tokenizer(["a dog barking", "rain falling on a roof"], 300), "random")


def write_clip(path: Path, seconds: float, seed: int, *, sound: bool = True, pictures: bool = True) -> Path:
    """A file of noise of its own colour and of moving squares."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        if pictures:
            stream = container.add_stream("libx264", rate=FPS)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
        if sound:
            codec = "pcm_s16le" if path.suffix == ".wav" else "aac"
            track = container.add_stream(codec, rate=RATE, layout="mono")
        if pictures:
            for _ in range(round(seconds * FPS)):
                picture = np.kron(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        if sound:
            tone = np.sin(2 * np.pi * (200 + 97 * seed) * np.arange(round(seconds * RATE)) / RATE)
            samples = (8000 * tone + 2000 * rng.normal(size=tone.shape)).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            container.mux(track.encode(frame))
            container.mux(track.encode())
    return path


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips with sound and pictures, one silent, one unseen; five are in the split `test`."""
    folder = tmp_path_factory.mktemp("world")
    records = []
    for i in range(8):
        path = write_clip(folder / f"{i}.mp4", 1.0, i, sound=i != 6, pictures=i != 7)
        captions = {kind: f"{kind} of clip {i}" for kind in ("audio", "video", "audio_video")}
        split = "train" if i in (0, 1, 2) else "test"
        records.append({"id": f"c{i}", "path": path.name, "captions": captions, "split": split})
        if i > 2:
            records[-1]["transcript"] = f"said in clip {i}"
    return _write(folder, records)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve labelled sounds of three classes in two folds, in the layout of a folder of recordings."""
    folder = tmp_path_factory.mktemp("sounds")
    records = []
    for i in range(12):
        path = write_clip(folder / f"{i}.wav", 0.5, i, pictures=False)
        label = ["dog", "rain", "bell"][i % 3]
        records.append(
            {"path": path.name, "kind": "sound", "label": label, "caption": f"a {label}", "fold": 1 + i // 6}
        )
    return _write(folder, records).parent


def _write(folder: Path, records: list[dict]) -> Path:
    manifest = folder / "manifest.jsonl"
    manifest.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    return manifest
