"""The layout: which room may import which, how long a file may be, and how little an import loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import peav

PACKAGE = Path(peav.__file__).parent
LONGEST = 400  # lines of a file

# Arrows run down: what stands below all may be imported by every room.
BELOW_ALL: dict[str, set[str]] = {
    "errors": set(),
    "types": {"errors"},
    "utils": {"errors"},
    "distributed": {"errors", "utils"},
    "jobs": {"errors", "types", "utils"},
}
CORE: dict[str, set[str]] = {
    "model": set(),
    "media": set(),
    "recipes": set(),
    "objectives": {"model"},
    "checkpoint": {"model"},
    "inference": {"checkpoint", "media", "model"},
    "data": {"inference", "media"},
    "features": {"data", "inference", "media", "model"},
    "events": {"data", "media"},
    "encoder": {"inference", "media", "model"},
    "detector": {"events", "inference", "media", "model"},
    "captioner": {"checkpoint", "encoder", "inference", "model"},
    "describe": {"captioner", "checkpoint", "media"},
    "search": {"checkpoint", "encoder", "inference", "media"},
    "eval": {"data", "events", "features", "inference", "media", "model"},
    "train": {"checkpoint", "data", "eval", "events", "features", "inference", "media", "model", "objectives"},
}
CORE["train"] |= {"captioner", "encoder", "recipes"}
CORE["engine"] = CORE["train"] | {"search", "train"}
CORE["serve"] = set(CORE) - {"train", "engine"}
OUTER = {"bench": {*CORE}, "synth": {*CORE, "lab"}, "lab": {*CORE, "synth"}}
OUTER["cli"] = {*CORE, *OUTER}
MAY_IMPORT = BELOW_ALL | {room: below | set(BELOW_ALL) for room, below in (CORE | OUTER).items()}
ROOT = {"__init__", "__main__", "types", "errors", "distributed", "jobs"}
ROOT |= {"encoder", "detector", "captioner", "describe"}

# Arrows that still run up. Take a line out when it no longer does; none is to be added.
KNOWN = {
    ("data/collate.py", "features"),
    ("data/places.py", "features"),
    ("data/transforms.py", "features"),
}


def imported(path: Path) -> Iterator[str]:
    """The rooms of ours that a file imports, at its top or within a function."""
    package = ["peav", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            names = [".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("peav."))


def files() -> dict[str, Path]:
    return {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


def test_imports_run_one_way_and_nothing_in_the_core_knows_lab_or_synth() -> None:
    found = set()
    for name, path in files().items():
        if name not in ("__init__.py", "__main__.py"):
            allowed = MAY_IMPORT[room(name)] | {room(name), "__version__"}
            found |= {(name, other) for other in imported(path) if other not in allowed}
    assert found == KNOWN


def test_the_table_of_imports_has_no_circle() -> None:
    left = BELOW_ALL | CORE
    while left:
        lowest = {room for room, below in left.items() if not below & left.keys()}
        assert lowest, f"in a circle: {sorted(left)}"
        left = {room: below for room, below in left.items() if room not in lowest}


def test_the_root_has_the_public_face_and_what_is_below_all() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == ROOT
    rooms = {path.name for path in PACKAGE.iterdir() if any(path.glob("*.py"))}
    assert rooms <= set(MAY_IMPORT)


def test_no_file_is_long() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in files().items()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}


HELP = "import sys; sys.argv = ['peav', '--help']; import runpy\ntry: runpy.run_module('peav')\nexcept SystemExit: pass"


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import peav", {"torch", "numpy", "av", "typer"}),
        ("import peav; dir(peav)", {"torch", "numpy", "av", "typer"}),
        ("import peav.types, peav.errors", {"torch", "numpy", "av", "typer"}),
        ("import peav.media", {"torch"}),
        ("import peav.data.manifest", {"torch"}),
        (HELP, {"torch", "av", "pyarrow", "huggingface_hub"}),
    ],
)
def test_an_import_loads_no_more_than_it_needs(code: str, absent: set[str]) -> None:
    ask = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert absent & set(done.stdout.splitlines()[-1].split()) == set()


def test_the_public_names_are_shown_by_dir() -> None:
    assert dir(peav) == ["Captioner", "Detector", "Encoder", "__version__", "load", "similarity"]
    assert all(hasattr(peav, name) for name in dir(peav))
