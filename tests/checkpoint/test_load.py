"""Loading is strict and lean, saving is whole, and errors say what to do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import tiny_peaframe, tiny_peav
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from peav.checkpoint import CheckpointError, load_model, load_tokenizer, save_pretrained
from peav.checkpoint import perception_models as pm
from peav.checkpoint import transformers as tf
from peav.checkpoint.processors import Processors
from peav.model import FrameEncoderConfig, PEAFrame, PEAVConfig, preset


def copy(source: Path, target: Path) -> Path:
    """A writable copy of a golden checkpoint."""
    target.mkdir()
    for file in source.iterdir():
        shutil.copyfile(file, target / file.name)
    return target


@pytest.mark.slow
@pytest.mark.parametrize("build", [tiny_peav, tiny_peaframe])
def test_a_saved_model_loads_bit_equal(tmp_path: Path, build: type) -> None:
    model = build()
    loaded = load_model(save_pretrained(model, tmp_path / "model"))
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert not loaded.training
    state = loaded.state_dict()
    assert all(tensor.equal(state[name]) for name, tensor in model.state_dict().items())


def test_saved_weights_keep_the_models_dtype_and_load_as_asked(tmp_path: Path) -> None:
    path = save_pretrained(tiny_peaframe().bfloat16(), tmp_path / "model")
    assert {t.dtype for t in load_file(path / "model.safetensors").values()} == {torch.bfloat16}
    assert {p.dtype for p in load_model(path).parameters()} == {torch.float32}
    assert {p.dtype for p in load_model(path, dtype=torch.float16).parameters()} == {torch.float16}


def test_training_a_loaded_model_leaves_the_file_alone(tmp_path: Path) -> None:
    path = save_pretrained(tiny_peaframe(), tmp_path / "model")
    before = (path / "model.safetensors").read_bytes()
    model = load_model(path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert (path / "model.safetensors").read_bytes() == before


@pytest.mark.slow
def test_a_directory_holds_config_weights_tokenizer_and_card(tmp_path: Path) -> None:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "dog": 1}, unk_token="[UNK]"))
    path = save_pretrained(tiny_peav(), tmp_path / "model", tokenizer)
    assert {f.name for f in path.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    data = json.loads((path / "config.json").read_text())
    assert (data["format"], data["version"], data["model"]) == ("peav", 1, "peav")
    loaded = load_tokenizer(path)
    assert loaded is not None
    assert loaded.encode("dog").ids == [1]
    assert "peav.load" in (path / "README.md").read_text()


def test_no_tokenizer_is_none_and_a_broken_one_an_error(tmp_path: Path) -> None:
    assert load_tokenizer(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text("<html>")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is not JSON"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("layout", ["perception_models", "transformers"])
@pytest.mark.parametrize("model", ["pe-av", "pe-a-frame"])
def test_a_missing_or_unknown_tensor_is_named(golden: Path, tmp_path: Path, model: str, layout: str) -> None:
    path = copy(golden / f"{model}-{layout}", tmp_path / "broken")
    tensors = load_file(path / "model.safetensors")
    dropped = next(name for name in tensors if name.endswith("layers.1.mlp.down_proj.weight"))
    del tensors[dropped]
    tensors["a.surprise"] = torch.zeros(1)
    save_file(tensors, path / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"lacks {dropped}; it holds unknown a.surprise"):
        load_model(path)


def test_our_own_layout_is_as_strict(tmp_path: Path) -> None:
    path = save_pretrained(tiny_peaframe(), tmp_path / "model")
    tensors = load_file(path / "model.safetensors")
    tensors["extra"] = tensors.pop("logit_bias")
    save_file(tensors, path / "model.safetensors")
    with pytest.raises(CheckpointError, match="lacks logit_bias; it holds unknown extra"):
        load_model(path)


def test_a_tensor_of_the_wrong_shape_is_named(tmp_path: Path) -> None:
    path = save_pretrained(tiny_peaframe(), tmp_path / "model")
    tensors = load_file(path / "model.safetensors")
    tensors["audio.tower.norm.weight"] = torch.ones(7)
    save_file(tensors, path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"audio\.tower\.norm\.weight.*\(7,\).*\(256,\)"):
        load_model(path)


def test_tied_copies_in_a_transformers_file_are_one_tensor(golden: Path, tmp_path: Path) -> None:
    path = copy(golden / "pe-av-transformers", tmp_path / "tied")
    tensors = load_file(path / "model.safetensors")
    tensors |= {f"audio_model.{name}": t.clone() for name, t in tensors.items() if name.startswith("text_model.")}
    save_file(tensors, path / "model.safetensors")
    load_model(path)
    tensors["audio_model.text_model.final_norm.weight"] += 1
    save_file(tensors, path / "model.safetensors")
    with pytest.raises(CheckpointError, match="one tensor by name but differ"):
        load_model(path)


def test_shards_are_read_through_their_index(golden: Path, tmp_path: Path) -> None:
    path = copy(golden / "pe-a-frame-transformers", tmp_path / "sharded")
    tensors = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, path / shard)
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    state = load_model(golden / "pe-a-frame-transformers").state_dict()
    assert all(tensor.equal(state[name]) for name, tensor in load_model(path).state_dict().items())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "config.json does not exist"),
        ("not json", "is not JSON"),
        ("[]", "holds no JSON object"),
        ('{"model_type": "bert"}', "none of the layouts peav, perception_models, transformers"),
        ('{"format": "peav", "version": 2, "model": "peav"}', "version 2.*upgrade peav"),
        ('{"format": "peav", "version": 1, "model": "peav", "config": {"depth": 3}}', "config.depth is 3: unexpected"),
    ],
)
def test_a_broken_config_says_what_is_wrong(tmp_path: Path, config: str | None, message: str) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path)


def test_absent_and_damaged_weights_say_so(tmp_path: Path) -> None:
    path = save_pretrained(tiny_peaframe(), tmp_path / "model")
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"is damaged.*download it again"):
        load_model(path)
    weights.unlink()
    with pytest.raises(CheckpointError, match="does not exist"):
        load_model(path)


def test_official_original_configs_are_the_presets() -> None:
    tower = {"small": (768, 2048, 12, 6), "base": (1024, 2752, 16, 8), "large": (1792, 4800, 28, 14)}
    for size, (width, mlp, layers, heads) in tower.items():
        shape = {"hidden_size": width, "intermediate_size": mlp, "num_attention_heads": heads}
        visual = {"pe_encoder": "PE-Core-L14-336", "visual_transformer": {**shape, "num_hidden_layers": 4}}
        data = {
            "audio_visual_model": {
                "audio_visual_transformer": {**shape, "num_hidden_layers": 6},
                "visual_model": {**visual, "fixed_len_video": True},
                "audio_model": {"dac_vae_encoder": None, "audio_transformer": {**shape, "num_hidden_layers": layers}},
            },
            "text_model": {"hidden_size": 1024, "intermediate_size": 2624, "num_hidden_layers": 28}
            | {"num_attention_heads": 16},
            "nth_text_layer": 22,
        }
        assert pm.is_layout(data)
        assert pm.read_config(data) == preset(f"{size}-16-frame")
        assert pm.text_layers(data) == 28


def test_official_transformers_config_is_the_preset() -> None:
    PeAudioConfig = pytest.importorskip("transformers").PeAudioConfig

    large = PeAudioConfig(audio_config={"num_hidden_layers": 28})
    assert tf.read_config(large.to_dict(), Processors()) == preset("frame-large")
    media = {"audio_config": {"num_hidden_layers": 28}, "video_config": {"num_hidden_layers": 4}}
    data = {"model_type": "pe_audio_video", "audio_video_config": media}
    assert tf.read_config(data, Processors(num_frames=16)) == preset("large-16-frame")


def test_every_published_frame_encoder_has_both_its_names() -> None:
    from peav.checkpoint.frame_encoders import PE_CORE, TIMM, find_name

    assert TIMM["vit_pe_core_large_patch14_336"] == PE_CORE["PE-Core-L14-336"] == FrameEncoderConfig()
    assert TIMM["vit_pe_core_gigantic_patch14_448"].mlp_width == 8960
    assert all(find_name(config) == name for name, config in PE_CORE.items())
    large = preset("large")
    assert isinstance(large, PEAVConfig)
    assert find_name(large.video.frame_encoder) == "PE-Core-L14-336"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nth_text_layer": None}, "nth_text_layer is None"),
        ({"nth_text_layer": 9}, "nth_text_layer is 9"),
    ],
)
def test_text_layers_that_do_not_exist_are_refused(golden: Path, change: dict[str, int | None], message: str) -> None:
    data = json.loads((golden / "pe-a-frame-perception_models" / "config.json").read_text())
    with pytest.raises(CheckpointError, match=message):
        pm.read_config(data | change)


def test_an_unknown_frame_encoder_lists_the_known_ones(golden: Path) -> None:
    data = json.loads((golden / "pe-av-perception_models" / "config.json").read_text())
    data["audio_visual_model"]["visual_model"]["pe_encoder"] = "PE-Core-X99"
    with pytest.raises(CheckpointError, match="'PE-Core-X99', not one of PE-Core-G14-448"):
        pm.read_config(data)


def test_peaframe_is_told_from_peav_by_its_config(golden: Path) -> None:
    for layout in ("perception_models", "transformers"):
        assert isinstance(load_model(golden / f"pe-a-frame-{layout}"), PEAFrame)


@pytest.mark.slow
def test_loading_imports_neither_the_compiler_nor_transformers(tmp_path: Path) -> None:
    path = save_pretrained(tiny_peaframe(), tmp_path / "model")
    code = (
        "import sys; from peav.checkpoint import load_model; load_model(sys.argv[1])\n"
        "assert not {'torch._dynamo', 'sympy', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
