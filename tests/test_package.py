"""What is built holds all that peav needs: installed in an empty environment, it works from any folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytest.importorskip("hatchling")


def run(*command: object, cwd: Path) -> str:
    """What a command prints, in an environment that says nothing about where Python's packages are."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    """The wheel that is built from it."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", source / "dist", cwd=source)
    (wheel,) = (source / "dist").glob("*.whl")
    return wheel


def test_the_source_distribution_has_what_a_clone_has(source: Path) -> None:
    for name in ("run", "constraints.txt", "pyproject.toml", "LICENSE", "README.md", "tests/conftest.py", "docs"):
        assert (source / name).exists(), name
    ours = {path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*") if "__pycache__" not in path.parts}
    assert {path for path in ours if not (source / "src" / path).exists()} == set()


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*") if "__pycache__" not in path.parts}
    assert {str(path) for path in ours if (ROOT / "src" / path).is_file()} <= names
    assert all(name.startswith(("peav/", "peav-")) for name in names)


@pytest.mark.slow
def test_the_wheel_works_from_any_folder_of_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    install = ("-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    run(sys.executable, *install, cwd=tmp_path)
    # The packages that peav needs, as they are installed here: a folder that a .pth names is not searched for more of
    # them, so that the peav of this environment stays out of sight.
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(python, "-c", "import peav; print(peav.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(packages)
    peav = tmp_path / "venv" / "bin" / "peav"
    assert json.loads(run(peav, "doctor", "--json", cwd=tmp_path))["healthy"]
    for recipe in ("smoke", "recipes/smoke.yaml"):
        assert json.loads(run(peav, "train", recipe, "--dry-run", "--json", cwd=tmp_path))["parameters"] > 1e7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["venv"]
