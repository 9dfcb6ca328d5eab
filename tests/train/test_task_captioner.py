"""Training of a captioner: exact resume, processes that share a batch, and what it learns from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from training_runs import Noting, Silent, losses, recipe_file

from peav.captioner import Captioner
from peav.cli.train import result_table
from peav.data.manifest import Row
from peav.errors import RecipeError
from peav.train import plan, read_recipe, train
from peav.train.recipe import Captioning
from peav.train.train_checkpoint import read_state, remove_state, states
from peav.types import Event

pytest.importorskip("transformers", reason="pip install transformers")
from random_captioner import save_parts

from peav.data.collate import Collator
from peav.encoder import Encoder
from peav.features.extract import ClipFeatures
from peav.inference.language_model import LanguageModel
from peav.model import PLM, PLMConfig
from peav.train.task_captioner import CaptionCollator, CaptionModule

SETTINGS = {"rank": 2, "encoder_layers": 1, "audio_stride": 8, "events": 0.5}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_parts(tmp_path_factory.mktemp("plm"))


def recipe(folder: Path, world: Path, parts: Path, name: str, **settings: object) -> Path:
    path = recipe_file(folder, world, name)
    values = yaml.safe_load(path.read_text())
    how = {"language_model": str(parts / "language"), **SETTINGS, **settings}
    values |= {"model": str(parts / "encoder"), "objective": {}, "frames": {"frozen": True}, "captioner": how}
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on_to_the_same_bits_and_adapters_go_on_from_projectors(
    world: Path, parts: Path, tmp_path: Path
) -> None:
    figures = train(read_recipe(recipe(tmp_path, world, parts, "whole")), Silent())
    assert set(figures["test"]) == {"likelihood", "shuffled"}
    shown = list(result_table(figures).columns[1].cells)
    assert shown == [f"{100 * figures['validation'][name]:.1f} %" for name in ("likelihood", "shuffled")]
    cut = recipe(tmp_path, world, parts, "cut")
    train(read_recipe(cut), Silent())
    for path in states(tmp_path / "cut" / "checkpoints")[1:]:
        remove_state(path)
    train(read_recipe(cut), Silent(), resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    kept = read_state(states(tmp_path / "whole" / "checkpoints")[-1])["module"]
    assert {".".join(name.split(".")[:2]) for name in kept} == {"model.projectors", "model.adapters"}
    captioner = Captioner.load(tmp_path / "whole" / "model", device="cpu")
    moved = [bool(value.any()) for name, value in captioner.model.adapters.items() if name.endswith("-up")]
    assert moved
    assert all(moved)

    plain = recipe(tmp_path, world, parts, "plain", rank=0, encoder_layers=0)
    train(read_recipe(plain), Silent())
    onward = {"checkpoint": str(tmp_path / "plain" / "model"), "language_model": None}
    further = recipe(tmp_path, world, parts, "further", **onward)
    begun = read_recipe(further)
    train(replace(begun, optim=replace(begun.optim, steps=1, lr=1e-9)), Silent())
    before, after = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("plain", "further"))
    assert all(torch.allclose(after[name], value, atol=1e-7) for name, value in before.items())
    assert any(name.startswith("adapters") for name in after)
    again = recipe(tmp_path, world, parts, "again", **onward | {"checkpoint": str(tmp_path / "whole" / "model")})
    with pytest.raises(RecipeError, match="has adapters; go on from one with projectors alone"):
        train(read_recipe(again), Silent())


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(world: Path, parts: Path, tmp_path: Path) -> None:
    train(read_recipe(recipe(tmp_path, world, parts, "alone")), Silent())
    shared = recipe(tmp_path, world, parts, "shared")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    worker = Path(__file__).with_name("captioner_worker.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(worker), str(shared)], env=environment, check=True, capture_output=True)
    alone, together = losses(tmp_path / "alone"), losses(tmp_path / "shared")
    assert len(alone) == len(together) == 6
    for one, two in zip(alone, together, strict=True):
        assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.slow
def test_it_learns_to_tell_clips_apart(world: Path, parts: Path, tmp_path: Path) -> None:
    """On the clips that it was trained on: what it is told of a clip is likelier of that clip than of another."""
    path = recipe(tmp_path, world, parts, "long", events=0.0, rank=16)
    values = yaml.safe_load(path.read_text())
    values["optim"] |= {"steps": 300, "lr": 1e-2, "batch_size": 4}
    values["data"]["sources"][0]["place"] = str(only_training(world, tmp_path))
    path.write_text(yaml.safe_dump(values))
    figures = train(read_recipe(path), Noting())["validation"]
    assert figures["likelihood"] > 1.5 * figures["shuffled"]


def only_training(world: Path, folder: Path) -> Path:
    """Some of the clips that train, once more as those that are held out."""
    lines = [json.loads(line) for line in (world / "manifest.jsonl").read_text().splitlines()]
    for line in lines:
        for key in ("path", "audio_path", "video_path"):
            if line.get(key):
                line[key] = str(world / line[key])
    train_ = [line for line in lines if line["split"] == "train"][:4]
    for line in train_:
        line["captions"] = {"audio": line["captions"]["audio"][:1]}
    held = [{**line, "id": f"{line['id']}-again", "split": "validation"} for line in train_]
    path = folder / "some.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*train_, *held]))
    return path


def test_a_part_of_a_batch_without_captions_has_a_loss_and_gradients_of_zero(parts: Path) -> None:
    encoder = Encoder.from_pretrained(parts / "encoder", device="cpu")
    assert encoder.tokenizer is not None
    language = LanguageModel.load(parts / "language")
    collate = CaptionCollator(Collator(encoder.tokenizer, 32), language, Captioning("any"))
    rows = [Row("said", audio_path=Path("a.wav"), transcript="bin blue at f"), Row("mute", video_path=Path("a.mp4"))]
    batch = collate(rows, [ClipFeatures(np.zeros((3, 8), np.float16))] * 2, np.random.default_rng(0))
    module = CaptionModule(PLM(encoder.model, language.model, PLMConfig(rank=2)))
    losses = module(batch)
    assert losses["caption"] == 0
    losses["caption"].backward()
    gradients = [one.grad for one in module.parameters()]
    assert all(one is not None and not one.any() for one in gradients)


def test_what_is_only_seen_is_never_learned_to_be_heard(parts: Path) -> None:
    encoder = Encoder.from_pretrained(parts / "encoder", device="cpu")
    assert encoder.tokenizer is not None
    language = LanguageModel.load(parts / "language")
    collate = CaptionCollator(Collator(encoder.tokenizer, 32), language, Captioning("any", **SETTINGS))  # type: ignore[arg-type]
    row = Row(
        "a", audio_path=Path("a.mp4"), video_path=Path("a.mp4"), transcript="bin blue at f",
        captions={"audio": ["a dog barks"], "video": ["a red car"], "audio_video": ["a dog barks at a red car"]},
        events=(Event("dog_bark", 0.0, 1.0), Event("rain", 0.5, 1.0), Event("dog_bark", 2.0, 3.0)),
    )  # fmt: skip
    silent = replace(row, audio_path=None)
    bare = replace(row, captions={}, events=())
    clip = ClipFeatures(np.zeros((3, 8), np.float16), None, np.zeros((2, 8), np.float16))
    told: Counter[tuple[tuple[str, ...], str]] = Counter()
    for number in range(60):
        batch = collate([row, silent, bare], [clip] * 3, np.random.default_rng(number))
        assert batch.questions[2] is None
        for question, answer in zip(batch.questions[:2], batch.answers[:2], strict=True):
            assert question is not None
            streams = tuple(part for part in question.parts if isinstance(part, str))
            told[streams, language.text(answer.tolist())] += 1
    assert set(told) == {
        (("audio",), "a dog barks"), (("video",), "a red car"), (("audio", "video"), "a dog barks at a red car"),
        (("audio",), "dog bark, rain")}  # fmt: skip
    assert min(told.values()) > 5


def test_a_captioner_that_cannot_be_says_what_to_change(world: Path, parts: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="a captioner cannot be planned, only trained"):
        plan(read_recipe(recipe(tmp_path, world, parts, "planned")))
    for change, message in (
        ({"language_model": None}, "give either language_model or checkpoint"),
        ({"audio_stride": 0}, "strides are from 1"),
        ({"events": 2.0}, "a share from 0 to 1"),
    ):
        with pytest.raises(RecipeError, match=message):
            read_recipe(recipe(tmp_path, world, parts, "wrong", **change))
    path = recipe(tmp_path, world, parts, "wrong")
    for key, value, message in (
        ("frames", {"frozen": False}, "the frame encoder does not train"),
        ("tune", {}, "kinds of training of their own"),
        ("parallel", "fsdp", "knows no parallel: fsdp"),
    ):
        values = yaml.safe_load(path.read_text()) | {key: value}
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump(values))
        with pytest.raises(RecipeError, match=message):
            read_recipe(tmp_path / "bad.yaml")
