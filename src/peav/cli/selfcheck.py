"""A fixed input and what a model should give for it, to tell whether a machine computes it right; for `peav doctor`.

The known numbers, `golden.json`, lie beside the weights. Whoever ships a model writes them on a machine that passes the
tests: `python tests/golden_file.py DIRECTORY`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from peav.detector import Detector
from peav.encoder import Encoder
from peav.errors import CheckpointError
from peav.types import MODALITIES

GOLDEN = "golden.json"
# Relative; other processors round differently, a wrong computation is off by far more.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.3, "float16": 0.05}
CAPTION = "a tone glides upwards"


def sample() -> dict[str, np.ndarray]:
    """Two seconds: a gliding tone (96000,) float32 at 48 kHz, and a bright patch that wanders over 16 frames uint8."""
    seconds = np.arange(96000) / 48000
    tone = 0.3 * np.sin(2 * np.pi * (220 * seconds + 110 * seconds**2))
    frame, y, x = np.ogrid[:16, :96, :96]
    patch = 255 * np.exp(-((x - 6 * frame) ** 2 + (y - 48) ** 2) / 300)
    frames = np.stack([patch, patch[:, ::-1] / 2, np.broadcast_to(2.0 * y, patch.shape)], axis=-1)
    return {"audio": tone.astype(np.float32), "video": frames.astype(np.uint8)}


def outputs(model: Encoder | Detector) -> dict[str, np.ndarray]:
    """What a model makes of the sample.

    An encoder's embeddings (D,): the three media spaces and, with a tokenizer, the three text spaces. Of a detector the
    probabilities (50,) of the caption in each frame.
    """
    if isinstance(model, Detector):
        return {"scores": model.scores(sample()["audio"], [CAPTION], sampling_rate=48000).probabilities[0]}
    (window,) = model.encode_windows([sample()], MODALITIES, sampling_rate=48000)
    texts = {f"text_{space}": model.encode_text(CAPTION, space) for space in MODALITIES} if model.tokenizer else {}
    return {**window.embeddings, **{name: np.asarray(values) for name, values in texts.items()}}


def golden_error(model: Encoder | Detector, directory: Path) -> float:
    """The largest relative error against `golden.json` over all outputs; NaN where one is.

    Raises:
        CheckpointError: the file belongs to other weights, or to a model with a tokenizer.
        FileNotFoundError: there is none.
    """
    record = json.loads((directory / GOLDEN).read_text(encoding="utf-8"))
    if record["model_id"] != model.model_id:
        raise CheckpointError(
            f"{directory / GOLDEN} belongs to other weights: {record['model_id']}, not {model.model_id}"
        )
    found = outputs(model)
    expected = {name: np.array(values) for name, values in record["outputs"].items()}
    if found.keys() != expected.keys():
        names = ", ".join(sorted(found.keys() ^ expected.keys()))
        raise CheckpointError(f"{directory}: {names} on one side alone; is its tokenizer.json missing?")
    return float(np.max([np.abs(found[name] - row).max() / np.abs(row).max() for name, row in expected.items()]))
