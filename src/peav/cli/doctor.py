"""`peav doctor`: does everything work on this machine?"""

from __future__ import annotations

import io
import os
import platform
import wave
from collections.abc import Callable
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

import peav
from peav.cli.console import CacheDir, Device, Dtype, Json, Model, Revision, out, print_json

PACKAGES = ("torch", "av", "numpy", "tokenizers", "safetensors", "huggingface_hub", "pyarrow")
MARKS = {"ok": "[green]ok[/]", "missing": "[yellow]missing[/]", "failed": "[bold red]failed[/]"}


class CheckError(ValueError):
    """A check that did not pass; the message says what to do."""


class OptionalMissing(CheckError):
    """Something optional is not installed."""


def doctor(
    model: Model = "tiny",
    device: Device = None,
    revision: Revision = None,
    dtype: Dtype = None,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> None:
    """Check versions, device, decoding, speech synthesis, weights and one forward pass against known numbers.

    Exit code 1 if anything that is needed does not work.
    """
    checks: dict[str, Callable[[], str]] = {
        "versions": _versions,
        "device": _device,
        "decoding mp4": _decode_mp4,
        "decoding wav": _decode_wav,
        "speech synthesis": _espeak,
        f"model {model}": lambda: _model(model, device, revision, dtype, cache_dir),
    }
    results = [_run(name, check) for name, check in checks.items()]
    healthy = all(result["status"] != "failed" for result in results)
    if as_json:
        print_json({"healthy": healthy, "checks": results})
    else:
        table = Table(box=None, show_header=False)
        for result in results:
            table.add_row(MARKS[result["status"]], result["check"], escape(result["detail"]))
        out.print(table)
    if not healthy:
        raise typer.Exit(1)


def _run(name: str, check: Callable[[], str]) -> dict[str, str]:
    try:
        return {"check": name, "status": "ok", "detail": check()}
    except OptionalMissing as error:
        return {"check": name, "status": "missing", "detail": str(error)}
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        return {"check": name, "status": "failed", "detail": " ".join(str(error).split())}


def _versions() -> str:
    packages = " ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return f"peav {peav.__version__}, Python {platform.python_version()}, {packages}"


def _device() -> str:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{', '.join(gpus) or 'CPU only'}; {os.cpu_count()} cores, {torch.get_num_threads()} torch threads"


def _decode_mp4() -> str:
    """Encode a second of moving pictures with a tone in memory, decode it, and compare."""
    from peav.media import load_audio, load_frames, probe

    data = _mp4()
    info = probe(data)
    tone, frames = load_audio(data), load_frames(data)
    if not (info.has_audio and info.has_video):
        raise CheckError(f"a stream is missing after encoding: {info}")
    spectrum = np.abs(np.fft.rfft(tone[12000:36000]))
    pitch = float(spectrum.argmax()) * 2
    if abs(pitch - 440) > 4 or len(frames.pixels) != 10:
        raise CheckError(f"440 Hz and 10 frames came back as {pitch:.0f} Hz and {len(frames.pixels)} frames")
    return f"{len(tone)} samples, {len(frames.pixels)} frames of {frames.pixels.shape[2]}x{frames.pixels.shape[1]}"


def _mp4() -> bytes:
    import av

    buffer = io.BytesIO()
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)).astype(np.float32)
    with av.open(buffer, "w", format="mp4") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=48000, layout="mono")
        for number in range(10):
            picture = np.full((48, 64, 3), 20 * number, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        sound = av.AudioFrame.from_ndarray(tone[None], "fltp", "mono")
        sound.sample_rate = 48000
        container.mux(audio.encode(sound))
        for stream in (video, audio):
            container.mux(stream.encode(None))
    return buffer.getvalue()


def _decode_wav() -> str:
    from peav.media import load_audio

    steps = np.arange(-800, 800, dtype="<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48000)
        file.writeframes(steps.tobytes())
    samples = load_audio(buffer.getvalue())
    if not np.array_equal(samples, steps / np.float32(32768)):
        raise CheckError("16-bit samples did not come back exactly")
    return f"{len(samples)} samples, exactly"


def _espeak() -> str:
    if find_spec("espeakng_loader") is None:
        raise OptionalMissing(
            "espeakng-loader is not installed, so `peav world` has no speech: pip install peav[world]"
        )
    library = Path(import_module("espeakng_loader").get_library_path())
    if not library.is_file():
        raise CheckError(f"{library} is missing; reinstall espeakng-loader")
    return f"espeakng-loader {metadata.version('espeakng-loader')}"


def _model(name: str, device: str | None, revision: str | None, dtype: str | None, cache_dir: Path | None) -> str:
    """Load the weights and run one forward pass; against known numbers where they are beside the weights."""
    from peav.checkpoint import load_config, resolve
    from peav.model import PEAFrameConfig
    from peav.selfcheck import GOLDEN, TOLERANCE, golden_error, outputs

    folder = resolve(name, revision, cache_dir=cache_dir)
    kind = peav.Detector if isinstance(load_config(folder), PEAFrameConfig) else peav.Encoder
    loaded = kind.from_pretrained(folder, device=device, dtype=dtype)
    tolerance = TOLERANCE[dtype or "float32"]
    parameters = sum(weight.numel() for weight in loaded.model.parameters())
    about = f"{parameters / 1e6:.1f} M parameters on {next(loaded.model.parameters()).device}"
    if not (folder / GOLDEN).is_file():
        values = outputs(loaded)
        if not all(np.isfinite(row).all() for row in values.values()):
            raise CheckError(f"{about}; a forward pass gave NaN")
        return f"{about}; a forward pass gave finite numbers, there are none to compare them with"
    error = golden_error(loaded, folder)
    if not error <= tolerance:  # NaN is none
        raise CheckError(f"{about}; a forward pass is off by {error:.1e}: reinstall peav and torch")
    return f"{about}; a forward pass is within {error:.1e} of the known one"
