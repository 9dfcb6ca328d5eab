"""One run of the measurements: parts of a model, memory by length, files from end to end."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from peav.bench.files import file_runs, one_core
from peav.bench.measure import alternated, matrix_product, operations, peak_memory
from peav.bench.parts import OURS, Part, Sizes, parts, their_model
from peav.checkpoint.bundle import as_dtype
from peav.encoder import Encoder
from peav.errors import CheckpointError
from peav.model import PEAV, PEAVConfig, preset

RANDOM = ("nano", "tiny", "small", "base", "large")
PEAK = "matrix product"
LENGTHS = (10, 60)  # seconds of sound for the codec's memory


def random_encoder(size: str, device: str | None, dtype: str | None) -> Encoder:
    """An encoder of a named size with random weights. Raises ValueError for another size."""
    if size not in RANDOM:
        raise ValueError(f"no size {size!r} to make at random: give one of {', '.join(RANDOM)}")
    config = preset(size)
    assert isinstance(config, PEAVConfig)
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(0)
    model = PEAV(config).to(target, as_dtype(dtype))
    return Encoder(model, name=f"random:{size}")


def bench(
    encoder: Encoder,
    *,
    sizes: Sizes | None = None,
    repeats: int = 5,
    files: int = 64,
    beside: bool = True,
    progress: Callable[[str], object] = lambda part: None,
) -> dict[str, Any]:
    """Measure a model on the device where it is.

    On a CPU parts are measured with one core and one thread, in processor seconds, so that other jobs hardly count;
    the implementations take turns, and each figure is the median of `repeats`. The peak is that of a product of square
    matrices in the same dtype, taken in turns with every part. Operations are those that are carried out, with what
    the codec computes twice at its windows' edges.

    Args:
        encoder: with its weights, maybe random.
        sizes: how much each part is given.
        files: short clips to embed from end to end; 0 leaves it out.
        beside: measure transformers' classes with the same weights too, where they can be imported.
        progress: told what is measured now.

    Returns:
        `machine`, `model`, `clock`, `peak_gflops`, `parts`, `memory`, `files`, and why something is `left_out`.

    Raises:
        ValueError: no repeats, or a size that is not above 0.
    """
    sizes = sizes or Sizes()
    if repeats < 1 or min(vars(sizes).values()) <= 0:
        raise ValueError(f"repeats and sizes are above 0, not {repeats} and {sizes}")
    model, left_out = encoder.model, []
    weight = next(model.parameters())
    device, dtype = weight.device, weight.dtype
    theirs = None
    if beside:
        progress("loading transformers' model")
        try:
            theirs = their_model(model)
        except (ImportError, RuntimeError, CheckpointError) as error:  # as where torchvision is for another torch
            left_out.append(f"transformers: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    rows: list[dict[str, Any]] = []
    peaks: list[float] = []
    with one_core() if device.type == "cpu" else nullcontext():
        for part in parts(model, theirs, sizes):
            progress(part.name)
            measured, peak = _measure(part, repeats, device, dtype)
            rows += measured
            peaks.append(peak)
        progress("memory by length")
        memory = [_memory(encoder, seconds) for seconds in LENGTHS]
    del theirs
    runs = {}
    if files:
        progress(f"{files} files")
        runs = {name: run.to_dict() for name, run in file_runs(encoder, files).items()}
    return {
        "machine": machine(device),
        "model": encoder.name,
        "dtype": str(dtype).removeprefix("torch."),
        "clock": "cpu" if device.type == "cpu" else "wall",
        "repeats": repeats,
        "sizes": vars(sizes),
        "peak_gflops": max(peaks),
        "parts": rows,
        "memory": memory,
        "files": runs,
        "left_out": left_out,
    }


def _measure(part: Part, repeats: int, device: torch.device, dtype: torch.dtype) -> tuple[list[dict[str, Any]], float]:
    """A row for each implementation of a part, and the peak in operations a second (in 1e9) that was seen beside."""
    product, product_operations = matrix_product(device, dtype)
    with nullcontext() if part.gradients else torch.inference_mode():
        taken = alternated({PEAK: product, **part.works}, repeats, device)
        held = {name: peak_memory(work, device) for name, work in part.works.items()}
    with nullcontext() if part.gradients else torch.no_grad():  # in inference mode the counter does not work
        counted = {name: operations(work) for name, work in part.works.items()}
    peak = product_operations / taken[PEAK]
    rows = [
        {
            "part": part.name,
            "by": name,
            "unit": part.unit,
            "seconds_a_unit": taken[name] / part.amount,
            "times_ours": taken[name] / taken[OURS],
            "gflop_a_unit": counted[name] / part.amount / 1e9,
            "share_of_peak": counted[name] / taken[name] / peak,
            "peak_memory": held[name],
        }
        for name in part.works
    ]
    return rows, peak / 1e9


def _memory(encoder: Encoder, seconds: int) -> dict[str, float]:
    model = encoder.model
    weight, codec = next(model.parameters()), model.config.audio.codec
    waveform = torch.zeros(1, seconds * codec.sampling_rate, device=weight.device, dtype=weight.dtype)
    with torch.inference_mode():
        return {"seconds": seconds, "peak_memory": peak_memory(lambda: model.encode_codec(waveform), weight.device)}


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures depend on beside the model: the processor, its cores and how busy they are, versions."""
    names = ("torch", "transformers", "av", "peav")
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "bf16": "avx512_bf16" in _cpuinfo() or device.type == "cuda",
        "python": platform.python_version(),
        "versions": {name: found for name in names if (found := _version(name)) is not None},
    }


def _processor() -> str:
    lines = dict(line.split(":", 1) for line in _cpuinfo().splitlines() if ":" in line)
    found = {name.strip(): value.strip() for name, value in lines.items()}
    return found.get("model name", platform.processor() or platform.machine())


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
