"""`peav train --dry-run` at the command line."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from peav.cli.main import app

NANO = ["train", "phase1_small", "--dry-run", "--set", "model=nano", "--set", "optim.batch_size=8"]


@pytest.mark.slow
def test_what_cannot_run_ends_with_an_error_after_what_it_would_cost() -> None:
    runs = CliRunner().invoke(app, [*NANO, "--decode-rate", "2", "--clip-bytes", "4e6", "--json"])
    assert runs.exit_code == 0
    found = json.loads(runs.stdout)
    assert found["refused"] == []
    assert found["media"] == {
        "decode_seconds": 0.5,
        "bytes": 4e6,
        "clips": None,
        "measured": 0,
        "missing": ["data/phase1.jsonl"],
    }
    refused = CliRunner().invoke(app, [*NANO, "--device-memory", "0.001"])
    assert refused.exit_code == 2
    assert "a device: together" in refused.stdout
    assert "GiB of memory and has 0.001" in " ".join(refused.stderr.split())
