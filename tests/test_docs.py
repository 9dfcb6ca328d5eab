"""Snippets of the documentation run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.mark.parametrize("page", ["data.md", "jobs.md"])
def test_the_snippet_of_a_page_prints_what_it_says(page: str, tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    run = subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == re.findall(r"print\(.*\)  # (.*)", snippet)[0]
