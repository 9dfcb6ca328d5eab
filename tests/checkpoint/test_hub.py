"""Names: directories, the shipped model, and the hub with its revisions, offline too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from peav.checkpoint import CheckpointError, hub, load_config, load_model, resolve
from peav.model import PEAFrame

COMMITS = {"main": "a" * 40, "perception_models": "b" * 40}


@pytest.fixture
def cache(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache, as huggingface_hub lays it out, with both revisions of one repository; offline."""
    repository = tmp_path / "models--facebook--pe-a-frame-small"
    for revision, commit in COMMITS.items():
        layout = "transformers" if revision == "main" else revision
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        for file in (golden / f"pe-a-frame-{layout}").iterdir():
            shutil.copyfile(file, snapshot / file.name)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / revision).write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("revision", COMMITS)
def test_a_config_is_read_without_the_weights(cache: Path, revision: str) -> None:
    expected = load_model("facebook/pe-a-frame-small", revision=revision).config
    for weights in cache.rglob("*.safetensors"):
        weights.unlink()
    assert load_config("facebook/pe-a-frame-small", revision=revision) == expected


@pytest.mark.parametrize(
    ("revision", "branch"),
    [
        (None, "main"),
        ("main", "main"),
        ("transformers", "main"),
        ("perception_models", "perception_models"),
        ("b" * 40, "perception_models"),
    ],
)
def test_each_layout_comes_from_its_revision_and_pins_hold(cache: Path, revision: str | None, branch: str) -> None:
    assert resolve("facebook/pe-a-frame-small", revision).name == COMMITS[branch]


def test_both_revisions_load(cache: Path) -> None:
    for revision in COMMITS:
        assert isinstance(load_model("facebook/pe-a-frame-small", revision=revision), PEAFrame)


def test_offline_says_how_to_get_what_is_not_cached(cache: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not in the local cache.*unset HF_HUB_OFFLINE once to download it"):
        resolve("facebook/pe-av-large")
    with pytest.raises(CheckpointError, match="at revision 'v9' is not in the local cache"):
        resolve("facebook/pe-a-frame-small", "v9")


@pytest.mark.slow
def test_the_environment_variable_is_honoured(tmp_path: Path) -> None:
    code = "from peav.checkpoint import resolve; resolve('facebook/pe-av-small')"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("peav.errors.CheckpointError: facebook/pe-av-small at revision 'main'")
    assert last.endswith("unset HF_HUB_OFFLINE once to download it")


@pytest.mark.slow
def test_an_unreachable_hub_is_one_line(tmp_path: Path) -> None:
    code = "from peav.checkpoint import resolve; resolve('facebook/pe-av-small')"
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    process = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | nowhere, capture_output=True, text=True, check=False
    )
    last = process.stderr.strip().splitlines()[-1]
    assert "CheckpointError: facebook/pe-av-small at revision 'main'" in last
    assert "local directory" in last


@pytest.mark.parametrize("name", ["no/such/place", "./nowhere", "small", ""])
def test_what_is_neither_directory_nor_hub_name_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="no directory"):
        resolve(name)


def test_a_directory_wins_over_the_hub_and_may_be_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "facebook" / "pe-av-small").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("facebook/pe-av-small") == Path("facebook/pe-av-small")
    assert resolve(tmp_path) == tmp_path


def test_absent_package_weights_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "PACKAGE_WEIGHTS", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"has no 'tiny' weights: reinstall.*facebook/pe-av-small"):
        resolve("tiny")
    (tmp_path / "tiny").mkdir()
    assert resolve("tiny") == tmp_path / "tiny"
