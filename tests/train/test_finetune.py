"""Fine-tuning changes what it was told to change, resumes exactly and leaves a plain checkpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from parallel_worker import model as small_model
from parallel_worker import random_batch
from torch import nn
from training_runs import Silent, losses
from typer.testing import CliRunner

import peav
from peav.checkpoint import load_model, resolve
from peav.checkpoint.convert import read_model_id
from peav.cli.main import app
from peav.data.manifest import read_manifest, write_manifest
from peav.errors import RecipeError
from peav.features.store import FeatureCache
from peav.media import load_audio
from peav.model import PEAV
from peav.model.lora import LowRank, add_low_rank, merge_low_rank
from peav.objectives.pairs import FINETUNE, PAIRS
from peav.recipes import SHIPPED
from peav.train import read_recipe, train
from peav.train.clips import gather, with_features
from peav.train.contrastive_module import forward
from peav.train.finetune import Average, drop_unused_pairs, reinit, set_trainable
from peav.train.recipe import Tune

RECIPE = SHIPPED / "finetune.yaml"
AUDIO_PAIRS = tuple(PAIRS[name] for name in ("a_ac", "a_avc"))


@pytest.fixture(scope="module")
def pairs(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain manifest without ids: the sound of twelve clips under two labels, eight of them to train on."""
    rows = [row for row in read_manifest(world / "manifest.jsonl") if row.captions.get("audio")][:12]
    path = tmp_path_factory.mktemp("pairs") / "my.jsonl"
    splits = ["train"] * 8 + ["validation"] * 4
    write_manifest(
        path,
        [
            {"audio_path": str(row.audio_path), "text": ("plim", "plom")[i % 2], "split": split}
            for i, (row, split) in enumerate(zip(rows, splits, strict=True))
        ],
    )
    return path


def changes(world: Path, pairs: Path, output: Path, **more: str) -> dict[str, str]:
    return {
        "output": json.dumps(str(output)),
        "data.cache": json.dumps(str(world / "cache")),
        "data.sources": json.dumps([{"place": str(pairs)}]),
        "optim.steps": "6",
        "optim.batch_size": "4",
        "checkpoint_every": "2",
    } | {name.replace("__", "."): value for name, value in more.items()}


def command(world: Path, pairs: Path, output: Path) -> list[str]:
    settings = changes(world, pairs, output)
    del settings["data.sources"]
    sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return ["train", str(RECIPE), "--init", "tiny", "--data", str(pairs), *sets]


@pytest.fixture(scope="module")
def tuned(world: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("tuned") / "run"
    train(read_recipe(RECIPE, changes(world, pairs, output)), Silent())
    return output


@pytest.mark.slow
def test_lora_leaves_a_plain_checkpoint_in_which_the_adapted_layers_alone_have_changed(tuned: Path) -> None:
    before, after = load_model("tiny").state_dict(), load_model(tuned / "model").state_dict()
    assert list(before) == list(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    # The weights of linear layers that sound and text run through, and the scales of their pairs.
    parts = ("audio.tower.", "text.layers.", "heads.audio.", "heads.text_audio.", "logit_scale.a_ac")
    assert all(name.startswith(parts) for name in changed)
    assert {part for part in parts for name in changed if name.startswith(part)} == set(parts)
    assert all(after[name].dim() == 2 for name in changed if not name.startswith("logit"))
    assert peav.load(tuned / "model").encode_text(["plim"], space="audio").shape == (1, 256)


@pytest.mark.slow
def test_a_tuned_model_has_its_own_id_the_same_tokenizer_and_a_card_and_averages_with_its_start(
    tuned: Path, tmp_path: Path
) -> None:
    saved, shipped = tuned / "model", resolve("tiny")
    assert read_model_id(saved) != read_model_id(shipped)
    assert (saved / "tokenizer.json").read_bytes() == (shipped / "tokenizer.json").read_bytes()
    card = (saved / "README.md").read_text()
    assert f"\n# {read_recipe(RECIPE).name}\n" in card
    assert f'peav.load("{saved}")' in card
    result = json.loads((tuned / "result.json").read_text())
    assert f"| t2a | {100 * result['validation']['t2a']:.1f} % |" in card
    assert "## Licenses of the training data\n\n- unknown: 8 clips\n" in card
    assert "It began with `tiny` (license: apache-2.0)." in card
    assert "Trained on this pair:\n\n- `a_ac`: audio, audio caption\n" in card
    assert 'clips = model.encode_audio(["clip.wav"])' in card
    done = CliRunner().invoke(app, ["average", "tiny", str(saved), "-o", str(tmp_path / "mean")])
    assert done.exit_code == 0, done.output
    one, other, mean = (load_model(folder).state_dict() for folder in (shipped, saved, tmp_path / "mean"))
    assert all(torch.equal(mean[name], ((one[name].double() + other[name]) / 2).float()) for name in one)


@pytest.mark.slow
def test_only_pairs_that_the_data_have_train_and_labels_are_searched(tuned: Path) -> None:
    assert all(set(record) == {"a_ac"} for record in losses(tuned))
    result = json.loads((tuned / "result.json").read_text())
    assert set(result["validation"]) == {"t2a", "t2a_chance"}
    assert result["validation"]["t2a_chance"] == 0.5  # two labels among four clips: any clip of a label is right


@pytest.mark.slow
def test_a_tuning_killed_between_checkpoints_resumes_with_the_same_losses_and_weights(
    tuned: Path, world: Path, pairs: Path, tmp_path: Path
) -> None:
    output = tmp_path / "killed"
    line = [sys.executable, "-m", "peav", *command(world, pairs, output)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = output / "log.jsonl"
    while not (log.exists() and len(log.read_text().splitlines()) >= 3):
        assert run.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    subprocess.run([*line, "--resume"], env=environment, check=True, capture_output=True)
    assert losses(output) == losses(tuned)
    one, other = (load_model(folder / "model").state_dict() for folder in (output, tuned))
    assert all(torch.equal(one[name], other[name]) for name in one)  # the averages too were resumed


@pytest.mark.slow
def test_two_processes_tune_as_one(tuned: Path, world: Path, pairs: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "peav"]
    output = tmp_path / "shared"
    line = [*launcher, *command(world, pairs, output), "--set", "optim.bf16=false"]
    subprocess.run(line, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    alone = tmp_path / "alone"
    train(read_recipe(RECIPE, changes(world, pairs, alone, optim__bf16="false")), Silent())
    for one, two in zip(losses(alone), losses(output), strict=True):
        assert two == pytest.approx(one, rel=1e-3)


def embeddings(model: PEAV) -> dict:
    sides = tuple(dict.fromkeys(side for pair in FINETUNE for side in (pair.query, pair.target)))
    with torch.no_grad():
        return forward(model, random_batch(3, False), sides).embeddings


def test_a_new_low_rank_layer_changes_nothing_and_merging_a_trained_one_keeps_its_function() -> None:
    model = small_model(0)
    before = embeddings(model)
    add_low_rank(model, 2, torch.Generator().manual_seed(0))
    adapters = [module for module in model.modules() if isinstance(module, LowRank)]
    assert sum(isinstance(module, nn.Linear) for module in small_model(0).modules()) == len(adapters)
    for name, rows in embeddings(model).items():
        assert torch.equal(rows, before[name]), name
    for module in adapters:
        nn.init.normal_(module.up, std=0.1)
    trained = embeddings(model)
    merge_low_rank(model)
    assert list(model.state_dict()) == list(small_model(0).state_dict())
    for name, rows in embeddings(model).items():
        assert not torch.allclose(rows, before[name], rtol=1e-2), name
        torch.testing.assert_close(rows, trained[name], rtol=1e-4, atol=1e-5)


def test_a_low_rank_layer_is_the_formula_and_its_two_matrices_alone_have_gradients() -> None:
    base = nn.Linear(5, 3)
    layer, x = LowRank(base, 2, torch.Generator().manual_seed(1)), torch.randn(4, 5)
    nn.init.normal_(layer.up)
    expected = x @ (base.weight + 2.0 * layer.up @ layer.down).T + base.bias
    torch.testing.assert_close(layer(x), expected)
    layer(x).sum().backward()
    assert {name for name, p in layer.named_parameters() if p.grad is not None} == {"up", "down"}


@pytest.mark.parametrize("rank", [0, 2])
def test_chosen_parts_alone_train_with_the_scales_of_the_pairs(rank: int) -> None:
    model = small_model(0)
    model.audio.codec.requires_grad_(False)
    set_trainable(model, Tune(parts=("audio", "heads", "fusion"), rank=rank), AUDIO_PAIRS)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    scales = {f"logit_{kind}.{pair.name}" for kind in ("scale", "bias") for pair in AUDIO_PAIRS}
    assert scales < trained
    assert {name.rsplit(".", 1)[1] for name in trained - scales} >= ({"up", "down"} if rank else {"weight"})
    # The fusion is chosen too, but no pair of sound and text runs through it.
    assert all(name.startswith(("audio.tower.", "heads.audio.", "heads.text_audio.")) for name in trained - scales)


@pytest.mark.parametrize("part", ["audio", "video", "fusion", "text", "heads"])
def test_a_fresh_part_forgets_what_the_pairs_use_of_it_and_the_rest_stays_to_the_bit(part: str) -> None:
    model, before = small_model(0), small_model(0).state_dict()
    torch.manual_seed(5)
    reinit(model, [part], AUDIO_PAIRS)
    places = {"audio": ("audio.tower.",), "text": ("text.",), "heads": ("heads.audio.", "heads.text_audio.")}
    own = places.get(part, ())  # no pair of sound and text runs through video or fusion
    scales = tuple(f"logit_{kind}.{pair.name}" for kind in ("scale", "bias") for pair in AUDIO_PAIRS)
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith(own or ("none",)) and before[name].dim() > 1} <= changed
    assert all(name.startswith((*own, *scales)) for name in changed)


def test_a_fresh_video_part_keeps_its_frame_encoder() -> None:
    model, before = small_model(0), small_model(0).state_dict()
    torch.manual_seed(5)
    reinit(model, ["video"], FINETUNE)
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "video.proj.weight" in changed
    assert not any(name.startswith("video.frame_encoder.") for name in changed)


def test_a_fresh_part_must_train() -> None:
    with pytest.raises(RecipeError, match=r"not among tune\.parts"):
        Tune(parts=("text",), fresh=("audio",))
    with pytest.raises(RecipeError, match="set rank: 0"):
        Tune(fresh=("audio",), rank=4)


def test_tuning_everything_trains_everything_that_is_not_frozen_already() -> None:
    model = small_model(0)
    model.audio.codec.requires_grad_(False)
    set_trainable(model, Tune(), FINETUNE)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {f"audio.codec.{name}" for name, _ in model.audio.codec.named_parameters()}


def test_the_average_is_the_formula_and_steps_aside_to_the_bit() -> None:
    layer = nn.Linear(3, 2)
    average, values = Average(layer, 0.5), [layer.weight.detach().clone()]
    for step in range(6):
        with torch.no_grad():
            layer.weight.add_(torch.randn_like(layer.weight))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        values.append(decay * values[-1] + (1 - decay) * layer.weight.detach())
    live = layer.weight.detach().clone()
    with average.in_place():
        torch.testing.assert_close(layer.weight.detach(), values[-1])
    assert torch.equal(layer.weight, live)


@pytest.mark.slow
def test_plain_texts_stand_under_the_kinds_of_the_streams_that_a_file_has(world: Path, tmp_path: Path) -> None:
    """A video with sound has all three, a file of sound alone its own, also where the manifest says `path`."""
    clip = next(r for r in read_manifest(world / "manifest.jsonl") if len(r.captions) == 3 and r.audio_path)
    sound = tmp_path / "sound.wav"
    write_wav(sound, load_audio(clip.audio_path, end=1.0))
    write_manifest(
        tmp_path / "m.jsonl",
        [{"path": str(clip.audio_path), "text": ["a", "b"]}, {"path": "sound.wav", "caption": "c"}],
    )
    recipe = read_recipe(RECIPE, changes(world, tmp_path / "m.jsonl", tmp_path / "out"))
    cache = FeatureCache(tmp_path / "cache", load_model("tiny"))
    clips = with_features(recipe, cache, gather(recipe, Silent()), Silent())
    (both, alone) = clips.sources[0]
    assert both.captions == {kind: ["a", "b"] for kind in ("audio", "video", "audio_video")}
    assert alone.captions == {"audio": ["c"]}
    assert drop_unused_pairs(recipe, [alone], cache).objective.pairs == ("a_ac",)
    assert set(drop_unused_pairs(recipe, [both], cache).objective.pairs) == {pair.name for pair in FINETUNE}


def write_wav(path: Path, waveform: np.ndarray) -> None:
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 48000, 0, "NONE", ""))
        out.writeframes((waveform.clip(-1, 1) * 32767).astype("<i2").tobytes())


def test_init_is_refused_by_a_recipe_that_does_not_tune() -> None:
    done = CliRunner().invoke(app, ["train", str(RECIPE.with_name("smoke.yaml")), "--init", "tiny"])
    assert done.exit_code == 2
    assert "`tune:`" in done.output


@pytest.mark.slow
def test_data_without_any_pair_is_refused(world: Path, pairs: Path, tmp_path: Path) -> None:
    recipe = read_recipe(RECIPE, changes(world, pairs, tmp_path / "out", objective__pairs="[v_vc]"))
    with pytest.raises(RecipeError, match="both sides of any pair among v_vc"):
        train(recipe, Silent())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"tune__parts": "[ears]"}, r"\['ears'\] is none of audio, video, fusion, text, heads"),
        ({"tune__parts": "[]"}, "name one part or more"),
        ({"tune__rank": "-1"}, "rank must be 0"),
        ({"tune__ema": "1.0"}, "decay below 1"),
        ({"parallel": "fsdp"}, "set parallel: ddp"),
        ({"codec__trainable": "true"}, "leave out codec.trainable"),
    ],
)
def test_a_tuning_that_cannot_be_says_what_to_change(
    world: Path, pairs: Path, tmp_path: Path, setting: dict[str, str], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        read_recipe(RECIPE, changes(world, pairs, tmp_path, **setting))
