"""`./run` installs once: what it did is remembered until pyproject.toml or constraints.txt changes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Stands in for Python and for what an installation makes, since a real one takes minutes and a network.
PYTHON = """#!/bin/sh
case "$*" in
"-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/pip"; cp "$0" "$3/bin/peav" ;;
"-m pip "*) echo install >>calls; [ ! -e offline ] ;;
"demo "*) echo demo >>calls ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("run", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def demo(project: Path) -> tuple[int, list[str]]:
    """The exit code of `./run demo`, and what it did."""
    calls = project / "calls"
    calls.write_text("")
    run = subprocess.run(["sh", "run", "demo"], cwd=project, env={**os.environ, "PYTHON": str(project / "python")})
    return run.returncode, calls.read_text().split()


def test_a_second_run_installs_nothing_and_so_works_offline(project: Path) -> None:
    assert demo(project) == (0, ["install", "demo"])
    (project / "offline").touch()
    assert demo(project) == (0, ["demo"])


def test_what_is_asked_for_or_the_folder_changed_is_installed_again(project: Path) -> None:
    demo(project)
    for name in ("pyproject.toml", "constraints.txt"):
        with (project / name).open("a") as file:
            file.write("# changed\n")
        assert demo(project) == (0, ["install", "demo"])
        assert demo(project) == (0, ["demo"])
    moved = project.rename(project.with_name("moved"))
    assert demo(moved) == (0, ["install", "demo"])


def test_an_installation_that_failed_is_tried_again(project: Path) -> None:
    (project / "offline").touch()
    code, did = demo(project)
    assert (code != 0, did) == (True, ["install"])
    (project / "offline").unlink()
    assert demo(project) == (0, ["install", "demo"])
