"""A model is known by all its weights, in every layout and dtype that holds them, and by what it is built of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import tiny_peaframe, tiny_peav
from safetensors.torch import load_file

import peav
from peav.checkpoint import CheckpointError, average, convert, load_model, resolve, save_pretrained
from peav.checkpoint.convert import read_model_id
from peav.checkpoint.hub import SHIPPED
from peav.checkpoint.identity import model_id, same_model, weights_sha256


def naive(tensors: dict[str, torch.Tensor]) -> str:
    lines = []
    for name in sorted(tensors):
        values = tensors[name].float().numpy()
        lines.append(f"{name} {values.shape} {hashlib.sha256(values.tobytes()).hexdigest()}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def recorded(folder: Path) -> str:
    return json.loads((folder / "config.json").read_text())["weights_sha256"]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_records_the_hash_of_all_its_weights(name: str) -> None:
    folder = resolve(name)
    assert recorded(folder) == naive(load_file(folder / "model.safetensors"))


@pytest.mark.slow
def test_any_one_weight_makes_another_model() -> None:
    model = tiny_peaframe()
    seen = {weights_sha256(model.state_dict())}
    parameters = list(model.named_parameters())
    for _, parameter in parameters[:: len(parameters) // 12]:  # some of every tower
        with torch.no_grad():
            parameter.view(-1)[-1] += 1e-3
        seen.add(weights_sha256(model.state_dict()))
    assert len(seen) == 1 + len(parameters[:: len(parameters) // 12])


@pytest.mark.slow
def test_every_layout_of_one_model_has_one_id(tmp_path: Path) -> None:
    start = save_pretrained(tiny_peav(), tmp_path / "start")
    ids = {read_model_id(start)}
    for layout in ("transformers", "perception_models", "peav"):
        start = convert(start, tmp_path / layout, layout)
        ids.add(read_model_id(start))
    assert len(ids) == 1
    assert recorded(tmp_path / "start") == recorded(tmp_path / "peav")


@pytest.mark.slow
def test_golden_layouts_have_one_id_but_for_the_scales_that_one_of_them_lacks(golden: Path) -> None:
    layouts = ("transformers", "perception_models")
    assert len({read_model_id(golden / f"pe-a-frame-{layout}") for layout in layouts}) == 1
    states = [load_model(golden / f"pe-av-{layout}").state_dict() for layout in layouts]
    kept = [{name: tensor for name, tensor in state.items() if not name.startswith("logit_")} for state in states]
    assert weights_sha256(kept[0]) == weights_sha256(kept[1])
    assert len({read_model_id(golden / f"pe-av-{layout}") for layout in layouts}) == 2


@pytest.mark.slow
def test_a_dtype_that_holds_the_weights_keeps_the_id_and_one_that_rounds_them_does_not(tmp_path: Path) -> None:
    half = tiny_peaframe().bfloat16()
    one, other = (save_pretrained(model, tmp_path / str(i)) for i, model in enumerate((half, half.float())))
    assert read_model_id(one) == read_model_id(other)
    rounded = save_pretrained(tiny_peaframe().half(), tmp_path / "rounded")
    assert read_model_id(rounded) != read_model_id(save_pretrained(tiny_peaframe(), tmp_path / "whole"))


@pytest.mark.slow
def test_a_config_that_computes_otherwise_is_another_model_and_one_without_a_record_is_the_same(tmp_path: Path) -> None:
    model = tiny_peav()
    saved = save_pretrained(model, tmp_path / "model")
    before = read_model_id(saved)
    data = json.loads((saved / "config.json").read_text())
    weights = data.pop("weights_sha256")
    (saved / "config.json").write_text(json.dumps(data))
    assert read_model_id(saved) == before
    fewer = replace(model.config, video=replace(model.config.video, num_frames=3))
    assert model_id(fewer, weights) != before


def test_a_record_that_is_no_hash_is_refused(tmp_path: Path) -> None:
    saved = save_pretrained(tiny_peaframe(), tmp_path / "model")
    for wrong in (5, "", "0" * 63, "g" * 64):
        data = json.loads((saved / "config.json").read_text()) | {"weights_sha256": wrong}
        (saved / "config.json").write_text(json.dumps(data))
        with pytest.raises(CheckpointError, match="weights_sha256"):
            read_model_id(saved)


@pytest.mark.slow
def test_an_average_is_a_model_of_its_own(tmp_path: Path) -> None:
    one, two = (save_pretrained(tiny_peaframe(seed), tmp_path / str(seed)) for seed in (0, 1))
    mean = average([one, two], tmp_path / "mean")
    assert len({read_model_id(folder) for folder in (one, two, mean)}) == 3
    assert recorded(mean) == weights_sha256(load_model(mean).state_dict())


@pytest.mark.slow
def test_the_id_is_the_files_whatever_the_dtype_and_the_name() -> None:
    models = [
        peav.load(name, device="cpu", dtype=dtype) for name in ("tiny", resolve("tiny")) for dtype in (None, "bfloat16")
    ]
    assert len({model.model_id for model in models}) == 1
    assert peav.Detector.load("frame-tiny", device="cpu").model_id not in {model.model_id for model in models}


def test_what_the_shipped_model_made_before_ids_were_of_all_weights_is_still_its_own() -> None:
    tiny = read_model_id(resolve("tiny"))
    assert same_model("b5ba1f784f20dafe", tiny)
    assert same_model(tiny, tiny)
    assert not same_model("b5ba1f784f20dafe", "0" * 32)
    assert not same_model("c748ed5846d53a6b", tiny)
