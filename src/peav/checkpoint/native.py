"""Our own layout: config.json with `"format": "peav"`, and model.safetensors with the model's own parameter names."""

from __future__ import annotations

import re

from peav.errors import CheckpointError
from peav.model import PEAFrameConfig, PEAVConfig

from .bundle import Json, ModelConfig
from .fields import Section

FORMAT, VERSION, CAPTIONER = "peav", 1, "plm_av"
_SHA256 = re.compile("[0-9a-f]{64}")
_MODELS: dict[str, type[PEAVConfig] | type[PEAFrameConfig]] = {"peav": PEAVConfig, "peaframe": PEAFrameConfig}


def is_layout(config: Json) -> bool:
    """Whether a config.json is of this layout."""
    return config.get("format") == FORMAT


def read_config(data: Json, source: str = "config.json") -> ModelConfig:
    """Our config from config.json. Raises CheckpointError for a newer version, or naming the field that is wrong."""
    if data.get("model") == CAPTIONER:
        raise CheckpointError(f"{source} is of a captioner: load it with peav.Captioner.load")
    if data.get("version") != VERSION or data.get("model") not in tuple(_MODELS):
        found = f"version {data.get('version')!r:.60}, model {data.get('model')!r:.60}"
        raise CheckpointError(f"{source} is of {found}; this peav reads version {VERSION}: upgrade peav")
    return Section(data, source).section("config").read(_MODELS[data["model"]])


def write_config(config: ModelConfig, weights: str) -> Json:
    """config.json of this layout; `weights` is the `identity.weights_sha256` of what lies beside it."""
    model = "peav" if isinstance(config, PEAVConfig) else "peaframe"
    about = {"format": FORMAT, "version": VERSION, "model": model, "weights_sha256": weights}
    return {**about, "config": config.to_dict()}


def read_weights_sha256(data: Json) -> str | None:
    """The hash of all weights that config.json records; None where an older peav wrote it."""
    recorded = data.get("weights_sha256")
    if recorded is not None and not (isinstance(recorded, str) and _SHA256.fullmatch(recorded)):
        raise CheckpointError("config.json: weights_sha256 is no SHA-256: take it out, and it is computed when needed")
    return recorded
