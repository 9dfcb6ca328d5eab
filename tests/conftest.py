"""Shared fixtures: where the reference data lives, and one thread so that figures do not depend on the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import settings

SHARED = Path(__file__).resolve().parents[2] / "shared"

torch.set_num_threads(1)
settings.register_profile("peav", deadline=None)  # the first call imports and warms up
settings.load_profile("peav")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden checkpoints and recordings beside the checkout; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: golden checkpoints and recordings are needed here")
    return SHARED


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """The golden checkpoints in both public layouts, with inputs and the original code's outputs."""
    return shared / "golden"
