"""`peav doctor`: does everything work on this machine?

It has to run where hardly anything does, so nothing but the command line's own packages is imported up here.
"""

from __future__ import annotations

import io
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

import typer
from rich.table import Table

import peav
from peav.cli import options
from peav.cli.console import escape, out, print_json
from peav.errors import PeavError
from peav.utils.text import counted

IMPORTED = {"pillow": "PIL", "pyyaml": "yaml"}  # where a package goes by another name than its module
SPACE = 2**30  # bytes that must be free: for a temporary file, and for what is downloaded
MARKS = {"ok": "[green]ok[/]", "optional": "[dim]optional[/]", "failed": "[bold red]failed[/]"}


class CheckError(PeavError):
    """A check that did not pass; the message says what to do."""


class OptionalMissing(CheckError):
    """Something optional is not installed."""


def doctor(
    model: options.Model = "tiny",
    device: options.Device = None,
    revision: options.Revision = None,
    dtype: options.Dtype = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
) -> None:
    """Check packages, disks, device, decoding, speech synthesis, weights and one forward pass against known numbers.

    Exit code 1 if anything that is needed does not work.
    """
    checks: dict[str, Callable[[], str]] = {
        "packages": _packages,
        "temporary files": _temporary,
        "hub cache": lambda: _hub_cache(cache_dir),
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
            table.add_row(MARKS[result["status"]], escape(result["check"]), escape(result["detail"]))
        out.print(table)
    if not healthy:
        raise typer.Exit(1)


def _run(name: str, check: Callable[[], str]) -> dict[str, str]:
    try:
        return {"check": name, "status": "ok", "detail": check()}
    except OptionalMissing as error:
        return {"check": name, "status": "optional", "detail": str(error)}
    except Exception as error:  # a broken package may raise anything, and is what this command is for
        detail = str(error) if isinstance(error, CheckError) else f"{type(error).__name__}: {error}"
        return {"check": name, "status": "failed", "detail": " ".join(detail.split())}


def _packages() -> str:
    """Is everything that peav needs there, new enough, and does it import?"""
    try:
        needed = list(_requirements(metadata.requires("peav") or ()))
    except metadata.PackageNotFoundError as error:
        raise CheckError("peav itself is not installed, so what it needs may not be either: pip install .") from error
    found, wrong = [], []
    for name, lowest in needed:
        try:
            version = metadata.version(name)
            found.append(f"{name} {version}")
            if _numbers(version) < _numbers(lowest):
                wrong.append(f"{name} {version} is too old: pip install '{name}>={lowest}'")
            import_module(IMPORTED.get(name.lower(), name.replace("-", "_")))
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing: pip install '{name}>={lowest}'")
        except Exception as error:  # of any kind, see `_run`
            wrong.append(
                f"{name} does not import ({type(error).__name__}: {error}): pip install --force-reinstall {name}"
            )
    if wrong:
        raise CheckError("; ".join(wrong))
    return f"peav {peav.__version__}, Python {platform.python_version()}, {', '.join(found)}"


def _requirements(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """`(name, lowest version)` of each that is no extra's."""
    for line in lines:
        match = re.match(r"([\w.-]+)(?:\s*>=\s*([\d.]+))?", line)
        if match and "extra ==" not in line:
            yield match[1], match[2] or "0"


def _numbers(version: str) -> tuple[int, ...]:
    """2.13.0+cpu -> (2, 13, 0)."""
    match = re.match(r"[\d.]*\d", version)
    numbers = [int(number) for number in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _temporary() -> str:
    return _room(Path(tempfile.gettempdir()), "set TMPDIR to another folder")


def _hub_cache(folder: Path | None) -> str:
    """Where checkpoints of the hub are kept."""
    from huggingface_hub import constants

    return _room(folder or Path(constants.HF_HUB_CACHE), "give --cache-dir another folder, or set HF_HOME")


def _room(folder: Path, fix: str) -> str:
    """Can a folder, which may have to be made, be written to, and is there room?"""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"peav")
    except OSError as error:
        raise CheckError(f"{there} cannot be written to ({error.strerror}); {fix}") from error
    free = shutil.disk_usage(there).free
    if free < SPACE:
        raise CheckError(f"{there} has {free / 2**20:.0f} MiB free; make room, or {fix}")
    return f"{folder}, {free / 2**30:.0f} GiB free"


def _device() -> str:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    cores, threads = counted(os.cpu_count() or 1, "core"), counted(torch.get_num_threads(), "torch thread")
    return f"{', '.join(gpus) or 'CPU only'}; {cores}, {threads}"


def _decode_mp4() -> str:
    """Encode a second of moving pictures with a tone in memory, decode it, and compare."""
    import numpy as np

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
    import numpy as np

    from peav.media.write import write_media

    buffer = io.BytesIO()
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)).astype(np.float32)
    pictures = np.stack([np.full((48, 64, 3), 20 * number, np.uint8) for number in range(10)])
    write_media(buffer, "mp4", audio=[tone], video=pictures, fps=10)
    return buffer.getvalue()


def _decode_wav() -> str:
    import numpy as np

    from peav.media import load_audio
    from peav.media.write import write_media

    steps = np.arange(-800, 800, dtype=np.int16)
    buffer = io.BytesIO()
    write_media(buffer, "wav", audio=[steps])
    samples = load_audio(buffer.getvalue())
    if not np.array_equal(samples, steps / np.float32(32768)):
        raise CheckError("16-bit samples did not come back exactly")
    return f"{len(samples)} samples, exactly"


def _espeak() -> str:
    if find_spec("espeakng_loader") is None:
        raise OptionalMissing(
            "espeakng-loader is not installed, so `peav world` has no speech: pip install 'peav[world]'"
        )
    library = Path(import_module("espeakng_loader").get_library_path())
    if not library.is_file():
        raise CheckError(f"{library} is missing; reinstall espeakng-loader")
    return f"espeakng-loader {metadata.version('espeakng-loader')}"


def _model(name: str, device: str | None, revision: str | None, dtype: str | None, cache_dir: Path | None) -> str:
    """Load the weights and run one forward pass; against known numbers where they are beside the weights."""
    import numpy as np

    from peav.checkpoint import load_config, resolve
    from peav.checkpoint.identity import id_of
    from peav.cli.selfcheck import GOLDEN, TOLERANCE, golden_error, outputs
    from peav.model import PEAFrameConfig

    folder = resolve(name, revision, cache_dir=cache_dir)
    kind = peav.Detector if isinstance(load_config(folder), PEAFrameConfig) else peav.Encoder
    loaded = kind.from_pretrained(folder, device=device, dtype=dtype)
    tolerance = TOLERANCE[dtype or "float32"]
    if dtype in (None, "float32") and loaded.model_id != id_of(loaded.model):
        raise CheckError(f"{folder}: config.json was saved with other weights; copy it and its weights together")
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
