"""A small form of the campaign of kills, tests/campaigns/kills.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "campaigns"))
import kills


@pytest.mark.slow
@pytest.mark.parametrize("verb", list(kills.VERBS))
def test_killed_again_and_again_nothing_is_lost_and_nothing_is_twice(verb: str, tmp_path: Path) -> None:
    result = kills.campaign(verb, 2, tmp_path, per_kill=40)
    assert result.kills.total() >= 1  # a fast machine may be done before the second
