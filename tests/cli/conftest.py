"""A model on disk and a runner for the verbs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from media.make import pictures, tone, write_audio, write_video
from random_model import random_encoder
from typer.testing import CliRunner, Result

from peav.cli.main import app


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random model's directory."""
    folder = tmp_path_factory.mktemp("model") / "random"
    random_encoder().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def peav() -> Callable[..., Result]:
    """`peav("search", path, ...)` runs a verb in this process."""
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def as_json(peav: Callable[..., Result]) -> Callable[..., Any]:
    """Runs a verb with --json, which must succeed, and reads what it printed."""

    def run(*args: object) -> Any:
        result = peav(*args, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound, pictures, both, and a file of five seconds, in nested folders."""
    folder = tmp_path_factory.mktemp("media")
    (folder / "more").mkdir()
    write_audio(folder / "sound.wav", tone(0.6, seed=1))
    write_video(folder / "silent.mp4", pictures(10, seed=2))
    write_video(folder / "more" / "both.mp4", pictures(25, seed=3), sound=tone(1.0, seed=3))
    write_audio(folder / "more" / "long.flac", tone(5.0, seed=4)[:, ::-1], codec="flac")
    return folder


@pytest.fixture(scope="session")
def library(folder: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`folder` embedded in windows of two seconds: six of them."""
    path = tmp_path_factory.mktemp("library") / "lib.parquet"
    result = CliRunner().invoke(app, ["embed", str(folder), "-o", str(path), "--model", model, "--window", "2"])
    assert result.exit_code == 0, result.output
    return path
