"""Tars of clips of noise, as bytes."""

from __future__ import annotations

import io
import tarfile
import wave

import numpy as np


def sound(seed: int, seconds: float = 0.5) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 48_000, 0, "NONE", ""))
        samples = np.random.default_rng(seed).integers(-9000, 9000, round(seconds * 48_000), dtype=np.int16)
        out.writeframes(samples.tobytes())
    return file.getvalue()


def tar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as out:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return file.getvalue()


def clips(count: int, first: int = 0) -> dict[str, bytes]:
    each = ((f"{i:02d}.wav", sound(i + first), f"{i:02d}.txt", b"noise") for i in range(count))
    return {name: data for one, data_one, two, data_two in each for name, data in ((one, data_one), (two, data_two))}
