"""Every correspondence of tensors is exact in both directions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peav.checkpoint import CheckpointError
from peav.checkpoint.key_map import (
    BATCHED,
    CHANNEL,
    IDENTITY,
    POINTWISE,
    TOKEN,
    TRANSPOSED,
    Entry,
    Transform,
    read_entries,
    stacked,
    write_entries,
)

TRANSFORMS = {
    "same": (IDENTITY, (4, 3)),
    "token": (TOKEN, (5,)),
    "channel": (CHANNEL, (5,)),
    "batched": (BATCHED, (4, 3)),
    "pointwise": (POINTWISE, (4, 3)),
    "transposed": (TRANSPOSED, (4, 3)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_undo_themselves(name: str) -> None:
    transform, shape = TRANSFORMS[name]
    assert isinstance(transform, Transform)
    tensor = torch.randn(*shape)
    assert transform.ours(transform.theirs(tensor)).equal(tensor)


@given(parts=st.lists(st.integers(1, 4), min_size=2, max_size=4), unit=st.integers(1, 3))
def test_stacks_of_any_heights_come_apart_as_they_went_together(parts: list[int], unit: int) -> None:
    names = tuple(f"ours.{i}" for i in range(len(parts)))
    entry = Entry(names, ("theirs",), parts=tuple(parts))
    ours = {name: torch.randn(part * unit, 2) for name, part in zip(names, parts, strict=True)}
    theirs = entry.to_theirs(ours)
    assert theirs["theirs"].equal(torch.cat(list(ours.values())))
    back = entry.to_ours(theirs)
    assert all(back[name].equal(ours[name]) for name in names)


def test_stacked_keeps_the_order_of_the_foreign_tensors() -> None:
    q, k = torch.randn(2, 3), torch.randn(2, 3)
    assert stacked("qk", "q", "k").to_ours({"k": k, "q": q})["qk"].equal(torch.cat([q, k]))


def test_missing_and_unknown_tensors_are_named() -> None:
    entries = [Entry((f"ours.{i}",), (f"theirs.{i}",)) for i in range(2)]
    found = {"theirs.0": torch.zeros(1), "surprise": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"file lacks theirs\.1; it holds unknown surprise"):
        read_entries(entries, found, "file")


def test_what_has_no_place_is_handed_back() -> None:
    theirs, rest = write_entries([Entry(("a",), ("b",))], {"a": torch.ones(1), "more": torch.zeros(1)})
    assert list(theirs) == ["b"]
    assert list(rest) == ["more"]


def golden_names(directory: Path) -> set[str]:
    from safetensors import safe_open

    with safe_open(directory / "model.safetensors", "pt") as file:
        return set(file.keys())


@pytest.mark.parametrize("name", ["pe-av-perception_models", "pe-a-frame-transformers"])
def test_no_foreign_tensor_is_named_twice(golden: Path, name: str) -> None:
    from peav.checkpoint import perception_models, transformers
    from peav.checkpoint.files import read_json
    from peav.checkpoint.processors import Processors

    data = read_json(golden / name / "config.json")
    if perception_models.is_layout(data):
        config = perception_models.read_config(data)
        entries = perception_models.key_map(config, perception_models.text_layers(data))
    else:
        entries = transformers.key_map(transformers.read_config(data, Processors()))
    theirs = [tensor for entry in entries for tensor in entry.theirs]
    ours = [tensor for entry in entries for tensor in entry.ours]
    assert len(theirs) == len(set(theirs))
    assert len(ours) == len(set(ours))
    assert set(theirs) == golden_names(golden / name)
