"""The models that ship: whole, small, described, and giving the numbers that they gave where they were made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import peav
from peav.checkpoint import resolve
from peav.checkpoint.hub import SHIPPED
from peav.cli.main import app
from peav.cli.selfcheck import TOLERANCE, golden_error
from peav.events import Postprocessing

MEGABYTES = {"tiny": 25, "frame-tiny": 15}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_gives_the_known_numbers(name: str) -> None:
    model = peav.Detector.load(name, device="cpu") if name.startswith("frame") else peav.load(name, device="cpu")
    assert golden_error(model, resolve(name)) < TOLERANCE["float32"]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_is_small_and_names_its_data_and_their_licences(name: str) -> None:
    folder = resolve(name)
    assert (folder / "model.safetensors").stat().st_size < MEGABYTES[name] * 1e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    for word in ("license: apache-2.0", "**Data**", "**Held out**", "**Figures**", "CC BY", "ATTRIBUTION.md"):
        assert word in card
    assert (folder / "ATTRIBUTION.md").stat().st_size > 1000


@pytest.mark.slow
def test_frame_tiny_finds_as_many_events_as_its_card_says_with_its_own_settings() -> None:
    """The command of docs/results.md: two minutes of processor time."""
    mixtures = Path(__file__).parents[1] / ".." / "shared" / "data" / "sed_mix"
    if not mixtures.exists():
        pytest.skip("needs ../shared/data/sed_mix")
    command = ["detect", "eval", str(mixtures / "audio"), str(mixtures / "manifest.jsonl"), "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    (total,) = [row for row in json.loads(result.stdout)["results"][0]["rows"] if row["label"] == "all together"]
    assert total["f1"] > 0.167  # the best that was known with one threshold and a median


def test_frame_tiny_says_how_its_scores_become_events() -> None:
    how = peav.Detector.load("frame-tiny", device="cpu").postprocessing
    assert how == Postprocessing(0.75, low=0.4, median=0.68, min_gap=1.0, min_length=0.48)
