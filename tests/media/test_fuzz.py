"""Damaged files end in a result or a MediaError, never in anything else; `./run long fuzz` is the large form."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from campaigns.fuzz import campaign, summary
from media.mutants import SUFFIXES, Mutants


@pytest.mark.slow
def test_mutants_of_one_seed_are_the_same_bytes(tmp_path: Path) -> None:
    one = Mutants(tmp_path, 3)
    with tempfile.TemporaryDirectory() as folder:
        other = Mutants(Path(folder), 3)
    for number in range(2 * len(SUFFIXES)):
        suffix, kind, data = one(number)
        assert (suffix, kind, data) == other(number)
        assert data != one.originals[suffix]


@pytest.mark.slow
def test_three_hundred_mutants_give_a_result_or_a_media_error() -> None:
    result = campaign(300, seed=15)
    print(summary(result))  # with the seed and the share that decodes
    assert result.others == []
    assert len(result.outcomes) >= 23
    assert all(kind.total() >= 100 for kind in result.kinds.values())
    assert 1 / 3 < result.decoded < 0.95
