"""Loading a checkpoint never takes more memory than its weights: no second copy, whatever the layout and dtype."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from peav.checkpoint.bundle import Checkpoint, skeleton
from peav.checkpoint.convert import write_checkpoint
from peav.model import PEAVConfig, preset

MOST = 1.1  # times the weights in memory

# RssAnon, since the pages of the mapped file are the system's to take back. A small model is loaded first, so that
# what is imported on the way does not count; the peak is looked for a thousand times a second.
LOAD = """
import json, sys, threading, time
import peav

def held():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

small, path, dtype = sys.argv[1:]
peav.load(small, device="cpu", dtype=dtype)
base, peak, looks, done = held(), 0, 0, threading.Event()

def look():
    global peak, looks
    while not done.is_set():
        peak, looks = max(peak, held()), looks + 1
        time.sleep(0.001)

thread = threading.Thread(target=look)
thread.start()
model = peav.load(path, device="cpu", dtype=dtype).model
done.set()
thread.join()
weights = sum(p.numel() * p.element_size() for p in model.parameters())
seen = {"weights": weights, "peak": peak - base, "looks": looks}
print(json.dumps(seen | {"dtype": str(next(model.parameters()).dtype)}))
"""


def wide_config() -> PEAVConfig:
    """Shaped as `large`, with its deep audio tower whose matrices the public layouts hold in pieces, but narrower."""
    config = preset("large")
    assert isinstance(config, PEAVConfig)
    tower = replace(config.fusion, hidden_size=384, intermediate_size=1024, num_attention_heads=3)
    return replace(
        config,
        audio=replace(config.audio, transformer=replace(tower, num_hidden_layers=28)),
        video=replace(
            config.video,
            transformer=replace(tower, num_hidden_layers=4),
            frame_encoder=replace(config.video.frame_encoder, width=512, num_heads=8, num_layers=12),
        ),
        fusion=tower,
        text=replace(config.text, hidden_size=512, intermediate_size=1312, num_attention_heads=8, num_hidden_layers=6),
        output_dim=512,
    )


def write_random(config: PEAVConfig, directory: Path, layout: str, dtype: torch.dtype) -> Path:
    """A checkpoint of random weights."""
    model = skeleton(config).to_empty(device="cpu").to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.1, 0.1)
    directory.mkdir()
    write_checkpoint(Checkpoint(config, dict(model.state_dict())), directory, layout)  # type: ignore[arg-type]
    return directory


def loading(small: Path, path: Path, dtype: str) -> dict[str, Any]:
    command = [sys.executable, "-c", LOAD, str(small), str(path), dtype]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc says what a process holds")
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["perception_models", "transformers"])
def test_loading_holds_little_more_than_the_weights_at_any_moment(
    tmp_path: Path, layout: str, stored: torch.dtype
) -> None:
    nano = preset("nano")
    assert isinstance(nano, PEAVConfig)
    small = write_random(nano, tmp_path / "small", layout, stored)
    path = write_random(wide_config(), tmp_path / "wide", layout, stored)
    for dtype in ("float32", "bfloat16"):
        seen = loading(small, path, dtype)
        assert seen["dtype"] == f"torch.{dtype}"
        assert seen["looks"] > 20, seen
        assert seen["weights"] > 250e6, seen
        assert seen["peak"] <= MOST * seen["weights"], seen
