"""A random small model and real files to measure it on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from noise_clip import write_clip

from peav.encoder import Encoder
from peav.inference.tokenizer import train_tokenizer
from peav.model import PEAV
from peav.model.config import preset


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(PEAV(preset("tiny")), train_tokenizer(["a dog barking", "rain falling on a roof"], 300), "random")


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
    """Twelve labeled sounds of three classes in two folds, in the layout of a folder of recordings."""
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
