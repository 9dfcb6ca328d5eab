"""A few world clips, made once for all training tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from peav.data.world import generate


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    generate(folder, 20, seed=5)
    return folder
