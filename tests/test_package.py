"""What is built holds all that peav needs: installed in an empty environment, it works from any folder."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from installed import ROOT, build_source, build_wheel, install, run

pytest.importorskip("hatchling")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_source(tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    return build_wheel(source)


@pytest.mark.slow
def test_the_source_distribution_has_what_a_clone_has(source: Path) -> None:
    for name in ("run", "constraints.txt", "pyproject.toml", "LICENSE", "README.md", "tests/conftest.py", "docs"):
        assert (source / name).exists(), name
    ours = {path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*") if "__pycache__" not in path.parts}
    assert {path for path in ours if not (source / "src" / path).exists()} == set()


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*") if "__pycache__" not in path.parts}
    assert {str(path) for path in ours if (ROOT / "src" / path).is_file()} <= names
    assert all(name.startswith(("peav/", "peav-")) for name in names)


@pytest.mark.slow
def test_the_wheel_works_from_any_folder_of_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    peav = install(wheel, tmp_path / "venv") / "peav"
    assert json.loads(run(peav, "doctor", "--json", cwd=tmp_path))["healthy"]
    for recipe in ("smoke", "recipes/smoke.yaml"):
        assert json.loads(run(peav, "train", recipe, "--dry-run", "--json", cwd=tmp_path))["parameters"] > 1e7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["venv"]
