"""Small random models and comparisons that every checkpoint test uses."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from peav.model import PEAV, PEAFrame, PEAFrameConfig, PEAVConfig, preset


def tiny_peav(seed: int = 0) -> PEAV:
    """The preset `tiny`, random; not one of the published sizes."""
    torch.manual_seed(seed)
    config = preset("tiny")
    assert isinstance(config, PEAVConfig)
    return PEAV(config)


def tiny_peaframe(seed: int = 0) -> PEAFrame:
    """The preset `frame-tiny`, random."""
    torch.manual_seed(seed)
    config = preset("frame-tiny")
    assert isinstance(config, PEAFrameConfig)
    return PEAFrame(config)


def assert_same_tensors(first: Path, second: Path) -> None:
    """Both model.safetensors hold the same names, dtypes, shapes and bits."""
    a, b = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert tensor.dtype == b[name].dtype, name
        assert tensor.shape == b[name].shape, name
        assert tensor.view(torch.uint8).equal(b[name].view(torch.uint8)), name
