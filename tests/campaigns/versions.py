"""peav with the newest and the lowest versions of what it needs, each in an environment of its own.

    ./run versions [NAME ...]       (newest-3.11 newest-3.12 newest-3.13 lowest-3.11; all by default)

One environment at a time, in a temporary folder, removed afterwards. In each, every verb does its job on real files
(verbs.py) and the quick tests pass. Newest is the newest that the package index gives; the lowest versions are the
lower bounds of pyproject.toml. Where pip takes a CUDA build of torch an environment takes up to 8 GB, and is not begun
with less free. Interpreters: python3.11 and so on, those of pyenv, or PYTHONS="/a/python3.11 /b/python3.13".

Prints a Markdown table with every installed version, for docs/checks.md. Standard library alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEWEST, LOWEST = ("3.11", "3.12", "3.13"), ("3.11",)
NEEDED = 8 * 2**30
# What the tests need beside peav. The lowest environment has no transformers: it wants newer packages than peav does.
TOOLS = ("pytest", "pytest-xdist", "hypothesis", "psutil", "scikit-learn", "hatchling")
TRANSFORMERS = ("transformers", "timm", "torchvision")


@dataclass
class Result:
    """What one environment had and showed."""

    name: str
    python: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    verbs: str = "not run"
    tests: str = "not run"
    good: bool = False


def main() -> None:
    known = [f"newest-{python}" for python in NEWEST] + [f"lowest-{python}" for python in LOWEST]
    wanted = sys.argv[1:] or known
    if unknown := [name for name in wanted if name not in known]:
        sys.exit(f"{unknown[0]}: no such environment; there are {', '.join(known)}")
    results = []
    for name in wanted:
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if free < NEEDED:
            print(f"{name}: {free / 2**30:.1f} GiB free in {tempfile.gettempdir()}, 8 are needed; stopped", flush=True)
            break
        with tempfile.TemporaryDirectory(prefix=f"peav-{name}-") as folder:
            results.append(examine(name, Path(folder)))
        print(flush=True)
    print(markdown(results))
    sys.exit(not all(result.good for result in results) or len(results) < len(wanted))


def examine(name: str, folder: Path) -> Result:
    """Make an environment, run the verbs and the quick tests in it."""
    kind, _, version = name.partition("-")
    result = Result(name)
    interpreter = find_python(version)
    if interpreter is None:
        result.python = f"no Python {version} found"
        print(f"{name}: {result.python}; give PYTHONS", flush=True)
        return result
    print(f"{name}: installing (torch may be a CUDA build of gigabytes)", flush=True)
    subprocess.run([interpreter, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    packages = [f"{ROOT}[world]", *TOOLS]
    if kind == "lowest":
        packages += [f"{one}=={bound}" for one, bound in lower_bounds().items()]
    else:
        packages += TRANSFORMERS
    if run([python, "-m", "pip", "install", "--quiet", *packages]).returncode:
        result.verbs = result.tests = "could not be installed"
        return result
    result.python = output([python, "-c", "import platform; print(platform.python_version())"])
    result.versions = installed(python)
    size = sum(path.lstat().st_size for path in folder.rglob("*")) / 2**30
    print(f"{name}: Python {result.python}, {size:.1f} GiB", flush=True)
    began = time.monotonic()
    (folder / "verbs").mkdir()
    verbs = run([python, ROOT / "tests" / "campaigns" / "verbs.py", folder / "verbs"], cwd=folder)
    result.verbs = count_verbs(verbs.stdout)
    tests = run([python, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow", "-rs", "tests"], cwd=ROOT)
    result.tests = (tests.stdout.strip().splitlines() or ["no output"])[-1].strip("= ")
    # In the lowest environment alone tests that need transformers may skip.
    skips = without_transformers(tests.stdout)
    if skips:
        result.tests += f" ({skips} for want of transformers)"
    result.good = not verbs.returncode and not tests.returncode and (kind == "lowest" or not skips)
    print(f"{name}: {'good' if result.good else 'BAD'}, {(time.monotonic() - began) / 60:.0f} min", flush=True)
    return result


def run(command: list[object], cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run, showing what it prints, and keep that."""
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYENV_VERSION")}
    process = subprocess.Popen(
        [*map(str, command)], cwd=cwd, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(f"    {line}", end="", flush=True)
        lines.append(line)
    return subprocess.CompletedProcess(command, process.wait(), "".join(lines))


def output(command: list[object]) -> str:
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout.strip()


def find_python(version: str) -> str | None:
    """The interpreter of a version such as 3.12: of PYTHONS, of the path, or pyenv's newest."""
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"), key=lambda path: path.parts[-3])
    for one in [*os.environ.get("PYTHONS", "").split(), f"python{version}", "python3", *reversed(pyenv)]:
        try:
            found = output([one, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        except (OSError, subprocess.CalledProcessError):  # absent, or a stand-in of pyenv for a version that is not set
            continue
        if found == version:
            return str(one)
    return None


def lower_bounds() -> dict[str, str]:
    """Package -> the lowest version that pyproject.toml allows, the extra `world` included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = [*project["dependencies"], *project["optional-dependencies"]["world"]]
    bounds = {}
    for need in needs:
        match = re.fullmatch(r"([\w.-]+)>=([\w.]+)", need)
        assert match, f"pyproject.toml: {need!r} has no lower bound, or more than one"
        bounds[match[1]] = match[2]
    return bounds


def installed(python: Path) -> dict[str, str]:
    """What pip installed, by name."""
    lines = output([python, "-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check"]).splitlines()
    pairs = (line.partition("==")[::2] for line in lines if "==" in line)
    return {name.lower().replace("_", "-"): version for name, version in pairs if name.lower() != "peav"}


def count_verbs(text: str) -> str:
    lines = re.findall(r"(?m)^(\w+(?: \w+)?) +\d+ s  (FAILED)?", text)
    bad = [verb for verb, failed in lines if failed]
    return f"{len(lines) - len(bad)} of {len(lines)} verbs" + (f"; {', '.join(bad)} FAILED" if bad else "")


def without_transformers(text: str) -> int:
    """How many tests pytest's summary says were skipped since transformers, timm or torchvision is not there."""
    skips = re.findall(r"(?m)^SKIPPED \[(\d+)\].*could not import '(?:transformers|timm|torchvision)", text)
    return sum(map(int, skips))


def markdown(results: list[Result]) -> str:
    """A column for each environment, peav's own dependencies first."""
    direct = [name.lower().replace("_", "-") for name in lower_bounds()]
    others = sorted({name for result in results for name in result.versions} - set(direct))
    rows = [["", *(result.name for result in results)]]
    rows.append(["Python", *(result.python for result in results)])
    rows.append(["verbs", *(result.verbs for result in results)])
    rows.append(["quick tests", *(result.tests for result in results)])
    rows += [[name, *(result.versions.get(name, "") for result in results)] for name in [*direct, *others]]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


if __name__ == "__main__":
    main()
