"""Snippets of the documentation run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_the_snippet_on_manifests_prints_what_it_says(tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", (DOCS / "data.md").read_text(encoding="utf-8"), re.DOTALL)
    run = subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == re.findall(r"print\(.*\)  # (.*)", snippet)[0]
