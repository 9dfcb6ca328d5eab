"""Conversion loses nothing: every chain of layouts that comes home brings back every bit."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from helpers import assert_same_tensors, tiny_peaframe, tiny_peav
from safetensors.torch import load_file, save_file

from peav.checkpoint import LAYOUTS, CheckpointError, convert, load_model, save_pretrained
from peav.checkpoint import perception_models as pm
from peav.checkpoint import transformers as tf
from peav.checkpoint.files import read_json
from peav.checkpoint.processors import Processors, read_processors
from peav.model import PEAV

CHAINS = [
    ("perception_models", "peav", "perception_models"),
    ("perception_models", "transformers", "perception_models"),
    ("perception_models", "transformers", "peav", "perception_models"),
    ("transformers", "peav", "transformers"),
    ("transformers", "perception_models", "transformers"),
    ("transformers", "perception_models", "peav", "transformers"),
]


def run_chain(start: Path, layouts: tuple[str, ...], tmp_path: Path) -> Path:
    current = start
    for i, layout in enumerate(layouts):
        current = convert(current, tmp_path / f"{i}-{layout}", layout)
    return current


@pytest.mark.slow
@pytest.mark.parametrize("model", ["pe-av", "pe-a-frame"])
@pytest.mark.parametrize("chain", CHAINS, ids=" ".join)
def test_public_checkpoints_come_back_bit_equal(
    golden: Path, tmp_path: Path, model: str, chain: tuple[str, ...]
) -> None:
    start = golden / f"{model}-{chain[0]}"
    end = run_chain(start, chain[1:], tmp_path)
    assert_same_tensors(start, end)


@pytest.mark.slow
@pytest.mark.parametrize("there", ["perception_models", "transformers"])
@pytest.mark.parametrize("build", [tiny_peav, tiny_peaframe])
def test_our_own_models_come_back_bit_equal_with_their_config(tmp_path: Path, build: type, there: str) -> None:
    model = build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter))  # no value left that conversion could make up
    start = save_pretrained(model, tmp_path / "start")
    end = run_chain(start, (there, "peav"), tmp_path)
    assert_same_tensors(start, end)
    assert load_model(end).config == model.config


@pytest.mark.parametrize("model", ["pe-av", "pe-a-frame"])
def test_configs_come_back_with_the_same_meaning(golden: Path, tmp_path: Path, model: str) -> None:
    original = read_json(golden / f"{model}-perception_models" / "config.json")
    end = run_chain(golden / f"{model}-perception_models", ("transformers", "perception_models"), tmp_path)
    data = read_json(end / "config.json")
    assert pm.read_config(data) == pm.read_config(original)
    assert pm.text_layers(data) == pm.text_layers(original)
    original = read_json(golden / f"{model}-transformers" / "config.json")
    end = run_chain(golden / f"{model}-transformers", ("peav", "transformers"), tmp_path / "back")
    data = read_json(end / "config.json")
    assert tf.read_config(data, Processors()) == tf.read_config(original, Processors())


@pytest.mark.parametrize("model", ["pe-av", "pe-a-frame"])
def test_both_public_layouts_give_one_model(golden: Path, tmp_path: Path, model: str) -> None:
    first, second = (load_model(golden / f"{model}-{layout}") for layout in ("perception_models", "transformers"))
    assert first.config == second.config
    theirs = second.state_dict()
    for name, tensor in first.state_dict().items():
        if not name.startswith("logit"):  # the original layout of PE-AV has no scales and biases
            assert tensor.equal(theirs[name]), name


@pytest.mark.slow
def test_a_converted_model_gives_the_same_outputs(golden: Path, tmp_path: Path) -> None:
    start = golden / "pe-av-transformers"
    states = [
        load_model(run_chain(start, (layout,), tmp_path)).state_dict() for layout in ("peav", "perception_models")
    ]
    for name, tensor in load_model(start).state_dict().items():
        assert all(state[name].equal(tensor) for state in states), name


@pytest.mark.slow
def test_transformers_reads_the_config_of_a_converted_audio_video_model(golden: Path, tmp_path: Path) -> None:
    PeAudioVideoConfig = pytest.importorskip("transformers").PeAudioVideoConfig

    there = run_chain(golden / "pe-av-perception_models", ("transformers",), tmp_path)
    mine, golden_config = (PeAudioVideoConfig.from_pretrained(p) for p in (there, golden / "pe-av-transformers"))
    for part in ("text_config", "audio_video_config"):
        a, b = getattr(mine, part).to_dict(), getattr(golden_config, part).to_dict()
        for config in (a, b):  # the golden file says 1024 classes where the head has 512
            config.get("video_config", {}).pop("vision_config", None)
        a_audio, b_audio = (config.pop("audio_config", {}) for config in (a, b))
        assert {k: a[k] for k in b if k in a and k not in ("dtype", "video_config")} == {
            k: b[k] for k in b if k in a and k not in ("dtype", "video_config")
        }
        assert a_audio.get("dac_config", {}).get("hop_length") == b_audio.get("dac_config", {}).get("hop_length")


def test_tensors_without_a_place_stand_beside_and_neutral_ones_do_not(golden: Path, tmp_path: Path) -> None:
    to_transformers = convert(golden / "pe-av-perception_models", tmp_path / "tf", "transformers")
    extra = load_file(to_transformers / "peav_extra.safetensors")
    assert "audio.codec.scale.weight" in extra
    assert "text.layers.4.mlp.out.weight" in extra
    assert "video.frame_encoder.proj.bias" not in extra
    frames = convert(golden / "pe-a-frame-transformers", tmp_path / "pm", "perception_models")
    assert not (frames / "peav_extra.safetensors").exists()


def test_a_projection_bias_that_timm_trained_is_kept_and_used(golden: Path, tmp_path: Path) -> None:
    start = tmp_path / "biased"
    start.mkdir()
    (start / "config.json").write_text((golden / "pe-av-transformers" / "config.json").read_text())
    tensors = load_file(golden / "pe-av-transformers" / "model.safetensors")
    name = "video_model.video_encoder.embedder.vision_model.timm_model.head.bias"
    tensors[name] = torch.randn_like(tensors[name])
    save_file(tensors, start / "model.safetensors")
    there = convert(start, tmp_path / "pm", "perception_models")
    model = load_model(there)
    assert isinstance(model, PEAV)
    assert model.video.frame_encoder.proj.bias.equal(tensors[name].float())


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_frame_count_survives_every_layout(tmp_path: Path, layout: str) -> None:
    start = save_pretrained(tiny_peav(), tmp_path / "start")
    model = load_model(convert(start, tmp_path / "there", layout))
    assert isinstance(model, PEAV)
    assert model.config.video.num_frames == 8


def test_frames_and_rate_are_read_from_processor_files_of_any_age(tmp_path: Path) -> None:
    assert read_processors(tmp_path) == Processors(None, 48000)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 24000}))
    assert read_processors(tmp_path) == Processors(None, 24000)
    (tmp_path / "processor_config.json").write_text(json.dumps({"video_processor": {"num_frames": 16}}))
    assert read_processors(tmp_path) == Processors(16, 24000)
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps({"num_frames": None}))
    assert read_processors(tmp_path) == Processors(16, 24000)


def test_the_codecs_config_does_not_decide_the_sampling_rate(golden: Path) -> None:
    # transformers fills in 16 kHz there when nobody says otherwise, and reads it nowhere.
    data = read_json(golden / "pe-a-frame-transformers" / "config.json")
    data["audio_config"]["dac_config"]["sampling_rate"] = 16000
    assert tf.read_config(data, Processors()).audio.codec.sampling_rate == 48000


@pytest.mark.slow
def test_the_tokenizer_goes_along(golden: Path, tmp_path: Path) -> None:
    start = save_pretrained(tiny_peav(), tmp_path / "start")
    (start / "tokenizer.json").write_text("{}")
    end = run_chain(start, ("transformers", "perception_models"), tmp_path)
    assert (end / "tokenizer.json").read_text() == "{}"


def test_converting_onto_a_checkpoint_is_refused(golden: Path, tmp_path: Path) -> None:
    convert(golden / "pe-a-frame-transformers", tmp_path / "out", "peav")
    with pytest.raises(CheckpointError, match="holds a checkpoint already: give another directory"):
        convert(golden / "pe-a-frame-transformers", tmp_path / "out", "peav")


def test_an_unknown_layout_lists_the_known_ones(golden: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no layout 'onnx': choose one of peav, perception_models, transformers"):
        convert(golden / "pe-a-frame-transformers", tmp_path / "out", "onnx")


def test_chains_cover_every_pair_of_layouts() -> None:
    covered = {pair for chain in CHAINS for pair in pairwise(chain)}
    assert covered == {(a, b) for a in LAYOUTS for b in LAYOUTS if a != b}
