"""The models that ship: whole, small, described, and giving the numbers that they gave where they were made."""

from __future__ import annotations

import pytest

import peav
from peav.checkpoint import resolve
from peav.checkpoint.hub import SHIPPED
from peav.cli.selfcheck import TOLERANCE, golden_error

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
