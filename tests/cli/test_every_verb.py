"""Every verb does its job, as `./run long versions` checks it in other environments."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "campaigns" / "verbs.py"


@pytest.mark.slow
def test_every_verb_does_its_job_on_real_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("verbs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    verbs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(verbs)
    passed = verbs.main(tmp_path)
    assert passed, capsys.readouterr().out
