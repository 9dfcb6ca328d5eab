"""A model on disk and a runner for the verbs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from media.make import pictures, tone, write_audio, write_video
from random_detector import random_detector
from random_model import random_encoder
from typer.testing import CliRunner, Result

from peav.checkpoint import save_pretrained
from peav.cli.main import app
from peav.events import Postprocessing, find_events
from peav.events.formats import read_scores, to_tsv


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


@pytest.fixture(scope="module")
def frame_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random detector's directory."""
    detector = random_detector()
    folder = tmp_path_factory.mktemp("frame") / "model"
    save_pretrained(detector.model, folder, detector.tokenizer)
    return str(folder)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings, one in a folder below."""
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "more").mkdir()
    write_audio(folder / "a.wav", tone(1.0, seed=1))
    write_audio(folder / "more" / "b.flac", tone(1.5, seed=2), codec="flac")
    return folder


@pytest.fixture(scope="module")
def results(frame_model: str, sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of results with scores, and true events that some threshold finds exactly."""
    out = tmp_path_factory.mktemp("results")
    how = ("--labels", "dog,siren", "--threshold", "0.5", "--scores")
    args = ["detect", str(sounds), *how, "--model", frame_model, "-o", str(out / "found")]
    assert CliRunner().invoke(app, args).exit_code == 0
    scores = {name: read_scores(out / "found" / "scores" / f"{name}.tsv") for name in ("a", "b")}
    heard = Postprocessing({"dog": 0.62, "siren": 0.55})
    true = {f"{name}.wav": find_events(one, heard) for name, one in scores.items()}
    (out / "true.tsv").write_text(to_tsv(true))
    return out / "found", out / "true.tsv"
