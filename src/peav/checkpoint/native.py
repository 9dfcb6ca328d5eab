"""Our own layout: config.json with `"format": "peav"`, and model.safetensors with the model's own parameter names."""

from __future__ import annotations

from peav.model import PEAFrameConfig, PEAVConfig

from .errors import CheckpointError
from .source import Json, ModelConfig

FORMAT, VERSION = "peav", 1
_MODELS: dict[str, type[PEAVConfig] | type[PEAFrameConfig]] = {"peav": PEAVConfig, "peaframe": PEAFrameConfig}


def recognises(config: Json) -> bool:
    """Whether a config.json is of this layout."""
    return config.get("format") == FORMAT


def read_config(data: Json) -> ModelConfig:
    """Our config from config.json. Raises CheckpointError for a newer version or a broken config."""
    if data.get("version") != VERSION or data.get("model") not in _MODELS:
        found = f"version {data.get('version')}, model {data.get('model')!r}"
        raise CheckpointError(f"config.json is of {found}; this peav reads version {VERSION}: upgrade peav")
    try:
        return _MODELS[data["model"]].from_dict(data["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"config.json describes no model: {error}") from error


def write_config(config: ModelConfig) -> Json:
    """config.json of this layout."""
    model = "peav" if isinstance(config, PEAVConfig) else "peaframe"
    return {"format": FORMAT, "version": VERSION, "model": model, "config": config.to_dict()}
