"""Configs are validated, survive JSON, and the presets are the published sizes."""

from __future__ import annotations

import json

import pytest
import torch

from peav.model import PEAV, PRESETS, CodecConfig, FrameEncoderConfig, PEAFrame, PEAFrameConfig, PEAVConfig, preset


@pytest.mark.parametrize("name", PRESETS)
def test_configs_survive_json(name: str) -> None:
    config = preset(name)
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_fields_are_named() -> None:
    with pytest.raises(ValueError, match=r"CodecConfig\nwidth_typo\n.*[Uu]nexpected"):
        CodecConfig.from_dict({"width_typo": 3})


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no preset 'huge'.*small-16-frame"):
        preset("huge")


@pytest.mark.parametrize(("size", "layers"), [("small", 12), ("base", 16), ("large", 28)])
def test_official_sizes_are_the_papers(size: str, layers: int) -> None:
    config, frames, fixed = preset(size), preset(f"frame-{size}"), preset(f"{size}-16-frame")
    assert isinstance(config, PEAVConfig)
    assert isinstance(frames, PEAFrameConfig)
    assert isinstance(fixed, PEAVConfig)
    tower = config.audio.transformer
    assert (tower.num_hidden_layers, tower.hidden_size, tower.head_dim) == (layers, 64 * layers, 128)
    assert tower.num_attention_heads * 128 == tower.hidden_size
    assert (config.video.transformer.num_hidden_layers, config.fusion.num_hidden_layers) == (4, 6)
    assert config.audio.codec.hop_length == 1920
    assert (config.text.num_hidden_layers, config.text.hidden_size) == (22, 1024)
    assert (config.video.num_frames, fixed.video.num_frames) == (None, 16)
    assert frames.audio == config.audio


def test_the_large_models_build_without_memory() -> None:
    config, frames = preset("large"), preset("frame-large")
    assert isinstance(config, PEAVConfig)
    assert isinstance(frames, PEAFrameConfig)
    with torch.device("meta"):
        assert sum(p.numel() for p in PEAV(config).parameters()) > 2e9
        assert sum(p.numel() for p in PEAFrame(frames).parameters()) > 1e9


@pytest.mark.parametrize(
    "build",
    [
        lambda: CodecConfig(strides=(3, 8)),
        lambda: FrameEncoderConfig(image_size=100, patch_size=14),
        lambda: FrameEncoderConfig(width=100, num_heads=3),
    ],
)
def test_sizes_that_cannot_work_are_refused(build: type) -> None:
    with pytest.raises(ValueError, match=r"must be|multiple of"):
        build()
