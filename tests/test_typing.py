"""A type checker knows what the public functions give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import peav

USES = Path(__file__).with_name("typing_uses.py")


@pytest.mark.slow
def test_typical_uses_pass_mypy_strict(tmp_path: Path) -> None:
    """`assert_type` and `type: ignore` in the file hold in both directions: an unused ignore is an error too."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", str(USES)]
    source = Path(peav.__file__).parents[1]
    result = subprocess.run(
        [*command, "--cache-dir", str(tmp_path)],
        env={"MYPYPATH": str(source), "PATH": ""},
        cwd=source,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
