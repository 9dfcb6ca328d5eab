"""Recipes that build on another."""

from __future__ import annotations

from pathlib import Path

import pytest

from peav.errors import RecipeError
from peav.recipes import SHIPPED
from peav.train import read_recipe


def test_a_recipe_says_what_differs_from_its_base_and_an_override_comes_last(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: phase1_small\nname: mine\noptim: {lr: 5.0e-4, steps: 10}\n")
    (tmp_path / "next.yaml").write_text("base: mine.yaml\nname: next\ndata: {sources: [{place: my.jsonl}]}\n")
    base, mine, both = (
        read_recipe(path, {} if path == SHIPPED / "phase1_small.yaml" else {"optim.steps": "3"})
        for path in (SHIPPED / "phase1_small.yaml", tmp_path / "mine.yaml", tmp_path / "next.yaml")
    )
    assert (mine.name, mine.optim.lr, mine.optim.steps) == ("mine", 5.0e-4, 3)
    assert mine.optim.batch_size == base.optim.batch_size
    assert mine.objective == base.objective
    assert (both.name, both.optim.lr) == ("next", 5.0e-4)
    assert [source.place for source in both.data.sources] == ["my.jsonl"]
    assert both.data.max_seconds == base.data.max_seconds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("base: a.yaml\n", "builds on itself"),
        ("base: b.yaml\n", "no such recipe"),
        ("base: [smoke]\n", "give one recipe"),
        ("base: smoke\nspeed: 3\n", "no such key"),
    ],
)
def test_a_base_that_cannot_be_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(RecipeError, match=reason):
        read_recipe(tmp_path / "a.yaml")
