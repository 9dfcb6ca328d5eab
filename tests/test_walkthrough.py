"""docs/walkthrough.md holds: its commands, in their order in a new environment, print what the page says."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import ROOT, build_source, build_wheel, install

pytest.importorskip("hatchling")
pytest.importorskip("espeakng_loader")  # [world], as the page installs it

PAGE = ROOT / "docs" / "walkthrough.md"
NUMBER = r"-?\d+\.\d+"
PROGRESS = re.compile(r"^[a-z][a-z ]*: \d+(?: of \d+)?(?:, [\d.]+ min left)?\n", re.MULTILINE)  # on a slow machine


def commands(page: str) -> Iterator[tuple[str, str]]:
    """`(command, what it prints)` of the console blocks; Python blocks headed `# name.py` are files first."""
    for language, text in re.findall(r"^```(console|python)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        if language == "python":
            name = text.splitlines()[0].removeprefix("# ")
            assert name.endswith(".py"), text
            yield f"cat > {name} <<'END'\n{text}END\n", ""
        else:
            for block in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, printed = re.sub(r" *\\\n *", " ", block).partition("\n")
                yield command, printed


def agrees(promised: str, printed: str) -> bool:
    """Word for word, where `...` stands for anything and decimals may differ by 2 %, as processors do."""
    words = " ".join(promised.split())
    parts = re.split(rf"({NUMBER}|\.\.\.)", words)  # numbers and gaps stand at odd places
    kinds = [f"({NUMBER})" if re.fullmatch(NUMBER, part) else ".*?" for part in parts[1::2]]
    pattern = "".join(re.escape(text) + kind for text, kind in zip(parts[::2], [*kinds, ""], strict=True))
    found = re.fullmatch(pattern, " ".join(printed.split()), re.DOTALL)
    numbers = [float(number) for number in re.findall(NUMBER, words)]
    return found is not None and [float(one) for one in found.groups()] == pytest.approx(numbers, rel=0.02, abs=0.02)


def test_what_is_promised_is_compared_word_for_word() -> None:
    assert agrees("2 files ... 1.00 (a*)\n x", "2  files in 3 s 1.01 (a*) x")
    for printed in ("3 files 1.00 (a*) x", "2 files 1.10 (a*) x", "2 files 1.00 (a*) x y", "2 files 1.00 (aa) x"):
        assert not agrees("2 files ... 1.00 (a*)\n x", printed), printed


@pytest.mark.slow
def test_the_walkthrough_prints_what_it_promises(tmp_path: Path) -> None:
    binaries = install(build_wheel(build_source(tmp_path)), tmp_path / "environment")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment = clean | {"PATH": f"{binaries}:{os.environ['PATH']}", "OMP_WAIT_POLICY": "PASSIVE"}
    folder = tmp_path / "work"
    folder.mkdir()
    for command, promised in commands(PAGE.read_text(encoding="utf-8")):
        done = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        assert agrees(promised, PROGRESS.sub("", done.stdout)), (
            f"$ {command}\nprints\n{done.stdout}\nand not\n{promised}"
        )
