"""A run does what its recipe says, and goes on after a stop as if it had never stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from training_runs import Noting, Silent, losses, recipe_file

import peav.train.contrastive_module as step_module
from peav.checkpoint import load_model, load_tokenizer, resolve
from peav.data.collate import Collator
from peav.data.manifest import Row, read_manifest, write_manifest
from peav.errors import RecipeError, TrainingError
from peav.features.store import FeatureCache
from peav.lab.codec import DistillCodec
from peav.model import PEAV, preset
from peav.train import read_recipe, train
from peav.train.batches import BatchStream
from peav.train.clips import Clips, gather, with_features
from peav.train.initialize import InitContext
from peav.train.recipe import Objective, Text
from peav.train.run import build
from peav.train.task_contrastive import loss_weights
from peav.train.train_checkpoint import read_state, states
from peav.train.trainer import learning_rate


@pytest.mark.slow
def test_a_fresh_model_may_have_a_checkpoints_text_encoder_and_tokenizer(world: Path, tmp_path: Path) -> None:
    recipe = read_recipe(recipe_file(tmp_path, world, "text", text={"checkpoint": "tiny"}))
    clips = gather(recipe, Silent())
    model, tokenizer = build(recipe, clips)
    shipped = load_model("tiny")
    assert tokenizer.to_str() == load_tokenizer(resolve("tiny")).to_str()
    assert model.text.state_dict().keys() == shipped.text.state_dict().keys()
    assert all(value.equal(shipped.text.state_dict()[name]) for name, value in model.text.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.text.parameters())
    assert not model.heads["text_audio"].proj.weight.equal(shipped.heads["text_audio"].proj.weight)
    (tmp_path / "bare").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(resolve("tiny") / name, tmp_path / "bare")
    with pytest.raises(RecipeError, match=r"no tokenizer\.json"):
        build(replace(recipe, text=Text(str(tmp_path / "bare"))), clips)


@pytest.fixture(scope="module")
def whole_run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(read_recipe(recipe_file(folder, world, "whole")), Silent())
    return folder / "whole"


@pytest.mark.slow
def test_a_run_leaves_a_checkpoint_that_loads_and_a_log_of_every_step(whole_run: Path) -> None:
    model = load_model(whole_run / "model")
    assert model.project(torch.zeros(1, 64), "audio").shape == (1, 64)
    assert load_tokenizer(whole_run / "model") is not None
    log = losses(whole_run)
    assert len(log) == 6
    assert set(log[0]) == {
        *("a_ac", "a_v", "a_avc", "av_ac", "av_avc", "v_ac", "v_vc", "v_avc", "a_vc__v", "v_ac__a", "best_rq")
    }
    result = json.loads((whole_run / "result.json").read_text())
    assert set(result) == {"validation", "test", "data_wait"}
    records = [json.loads(line) for line in (whole_run / "log.jsonl").read_text().splitlines()]
    waited, took = (sum(record[name] for record in records) for name in ("wait", "seconds"))
    assert result["data_wait"] == pytest.approx(waited / took, abs=1e-4)
    assert 0 < result["data_wait"] < 1


def test_the_same_recipe_gives_the_same_losses_twice(
    whole_run: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    load = BatchStream.batch
    monkeypatch.setattr(BatchStream, "batch", lambda feed, number: asked.append(number) or load(feed, number))
    train(read_recipe(recipe_file(tmp_path, world, "again")), Silent())
    assert losses(tmp_path / "again") == losses(whole_run)
    assert asked == list(range(len(losses(whole_run))))  # and no batch is loaded that no step takes


@pytest.mark.slow
def test_a_run_killed_between_checkpoints_resumes_with_the_same_losses(
    whole_run: Path, world: Path, tmp_path: Path
) -> None:
    path = recipe_file(tmp_path, world, "killed")
    command = [sys.executable, "-m", "peav", "train", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = tmp_path / "killed" / "log.jsonl"
    while not (log.exists() and len(log.read_text().splitlines()) >= 3):
        assert run.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    subprocess.run([*command, "--resume"], env=environment, check=True, capture_output=True)
    assert losses(tmp_path / "killed") == losses(whole_run)


def test_a_run_is_not_overwritten_unasked(whole_run: Path, world: Path) -> None:
    with pytest.raises(TrainingError, match="--resume"):
        train(read_recipe(recipe_file(whole_run.parent, world, "whole")), Silent())


def test_a_run_does_not_go_on_by_another_recipe(whole_run: Path, world: Path) -> None:
    changed = recipe_file(whole_run.parent, world, "whole", optim={"lr": 0.5})
    with pytest.raises(TrainingError, match=r"recipe in optim\.lr \(\S+ there, 0\.5 here\): set that back"):
        train(read_recipe(changed), Silent(), resume=True)


@pytest.mark.slow
def test_a_run_goes_on_though_recipes_have_got_new_keys_since_and_others_are_told(whole_run: Path, world: Path) -> None:
    path = whole_run / "recipe.json"
    kept = path.read_text()
    old = json.loads(kept)
    del old["align"], old["data"]["sources"][0]["transforms"], old["evaluation"]["keep"]
    path.write_text(json.dumps(old | {"report_to": ["tensorboard"]}))
    train(read_recipe(recipe_file(whole_run.parent, world, "whole")), Silent(), resume=True)
    assert json.loads(path.read_text()) == json.loads(kept)


@pytest.mark.parametrize(("capability", "warned"), [("AVX2", True), ("AVX512", False)])
def test_bf16_on_a_processor_that_only_emulates_it_is_warned_of_before_the_work(
    capability: str, warned: bool, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Prepared(Exception):
        pass

    def stop(*arguments: object) -> None:
        raise Prepared

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr("peav.train.run._prepare", stop)
    recipe = read_recipe(recipe_file(tmp_path, world, "bf16", optim={"bf16": True}))
    with warnings.catch_warnings(record=True) as seen, pytest.raises(Prepared):
        train(recipe, Silent())
    assert any("bf16" in str(one.message) for one in seen) == warned


@pytest.mark.slow
def test_accumulated_batches_average_their_gradients_like_the_log_says(world: Path, tmp_path: Path) -> None:
    def run(name: str, steps: int, accumulate: int) -> list[dict]:
        optim = {"steps": steps, "accumulate": accumulate, "lr": 1e-12}  # the weights stay: batches can be compared
        train(read_recipe(recipe_file(tmp_path, world, name, optim=optim)), Silent())
        return [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]

    first, second = run("singly", 2, 1)
    (both,) = run("together", 1, 2)
    for name, loss in both["losses"].items():
        assert loss == pytest.approx((first["losses"][name] + second["losses"][name]) / 2, rel=1e-4), name
    assert first["losses"] != second["losses"]
    assert both["norm"] < (first["norm"] + second["norm"]) / 2


@pytest.mark.slow
def test_a_trainable_codec_moves_and_a_frozen_one_does_not(whole_run: Path, world: Path, tmp_path: Path) -> None:
    frozen = read_recipe(recipe_file(tmp_path, world, "frozen", steps=1))
    train(frozen, Silent())
    before = load_model(tmp_path / "frozen" / "model").audio.codec.state_dict()
    after = load_model(whole_run / "model").audio.codec.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    train(read_recipe(recipe_file(tmp_path, world, "moving", steps=2, codec={"trainable": True})), Silent())
    moved = load_model(tmp_path / "moving" / "model").audio.codec.state_dict()
    assert not all(torch.equal(before[name], moved[name]) for name in before)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_clips(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        step_module.ContrastiveModule,
        "start",
        lambda self, batch: self.model.logit_scale["a_ac"].data.fill_(float("inf")),
    )
    with pytest.raises(TrainingError, match=r"step 0 is not finite; its clips are .*train-"):
        train(read_recipe(recipe_file(tmp_path, world, "nan")), Silent())


@pytest.mark.slow
def test_clips_that_do_not_decode_are_named_and_left_out(world: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in (world / "manifest.jsonl").read_text().splitlines()]
    for record in records:
        record["path"] = str(world / record["path"])
    (tmp_path / "bad.mp4").write_text("not a video")
    records.append({"id": "bad", "path": str(tmp_path / "bad.mp4"), "split": "train"})
    write_manifest(tmp_path / "manifest.jsonl", records)
    changes = {"data": {"sources": [{"place": str(tmp_path / "manifest.jsonl")}]}}
    reporter = Noting()
    train(read_recipe(recipe_file(tmp_path, world, "skips", steps=1, **changes)), reporter)
    (failure,) = map(json.loads, (tmp_path / "skips" / "failures.jsonl").read_text().splitlines())
    assert failure["id"] == "bad"
    assert reporter.notes[-1].startswith("1 left out, see ")
    assert (failure["path"], failure["error"]) == (str(tmp_path / "bad.mp4"), "NotMediaError")
    assert len(read_manifest(tmp_path / "manifest.jsonl")) == 21


@pytest.mark.slow
def test_sources_with_the_same_ids_lose_only_what_does_not_decode(world: Path, tmp_path: Path) -> None:
    rows = [row for row in read_manifest(world / "manifest.jsonl") if row.split == "train"][:2]
    (tmp_path / "bad.mp4").write_text("not a video")
    bad = replace(rows[0], audio_path=tmp_path / "bad.mp4", video_path=tmp_path / "bad.mp4")
    recipe = read_recipe(recipe_file(tmp_path, world, "same-ids"))
    cache = FeatureCache(tmp_path / "cache", PEAV(preset("nano")))
    clips = with_features(recipe, cache, Clips([rows, [bad, rows[1]]], [1.0, 1.0], [], []), Silent())
    assert clips.sources == [rows, [rows[1]]]
    with pytest.raises(TrainingError, match="no clip that can be decoded"):
        with_features(recipe, cache, Clips([rows, [bad]], [1.0, 1.0], [], []), Silent())


@pytest.mark.slow
def test_sound_alone_trains_with_every_pair_in_the_recipe(world: Path, tmp_path: Path) -> None:
    rows = [row for row in read_manifest(world / "manifest.jsonl") if row.captions.get("audio")]
    records = [
        {"id": row.id, "audio_path": str(row.audio_path), "captions": {"audio": row.captions["audio"]}} for row in rows
    ]
    write_manifest(tmp_path / "manifest.jsonl", records)
    changes = {"data": {"sources": [{"place": str(tmp_path / "manifest.jsonl")}]}}
    train(read_recipe(recipe_file(tmp_path, world, "sound", steps=1, **changes)), Silent())
    (record,) = losses(tmp_path / "sound")
    assert record["a_ac"] > 0
    assert record["v_vc"] == 0


@pytest.mark.slow
def test_what_is_drawn_after_the_codec_is_the_same_whether_it_was_distilled_or_read(
    world: Path, tmp_path: Path
) -> None:
    rows = [row for row in read_manifest(world / "manifest.jsonl") if row.captions.get("audio")][:1]
    recipe = read_recipe(recipe_file(tmp_path, world, "drawn"))
    context = InitContext(recipe, True, ["m.jsonl"], [rows], [False], None, tmp_path / "cache", Silent())
    drawn = []
    for _ in range(2):
        torch.manual_seed(0)
        DistillCodec(steps=1, batch_size=1).run(PEAV(preset("nano")), context)
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)


def test_a_source_of_speech_alone_trains_on_clips_with_transcripts_and_holds_nothing_out(
    world: Path, tmp_path: Path
) -> None:
    manifest = str(world / "manifest.jsonl")
    sources = [{"place": manifest}, {"place": manifest, "transforms": ["transcripts"]}]
    clips = gather(read_recipe(recipe_file(tmp_path, world, "speech", data={"sources": sources})), Silent())
    assert clips.sources[1] == [row for row in clips.sources[0] if row.transcript]
    assert len({row.id for row in clips.test}) == len(clips.test) > 0


@pytest.mark.slow
def test_timed_words_are_learnt_where_the_recipe_says_so(world: Path, tmp_path: Path) -> None:
    changes = {"objective": {"auxiliary": {"words": {"weight": 0.5}}}, "frames": {"frozen": True}}
    path = recipe_file(tmp_path, world, "words", steps=2, **changes)
    train(read_recipe(path, {"initializers": "[{class: pretrain_frames, steps: 2}]"}), Silent())
    log = losses(tmp_path / "words")
    assert all(record["words"] > 0 for record in log)


@pytest.mark.slow
def test_a_run_ends_with_the_weights_that_were_best_on_validation_clips(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripted figures: the second step is the best, one before it and the later ones are not."""
    figures = iter([0.2, 0.9, 0.4, 0.3, 0.1, 0.5, 0.0, 0.0])
    monkeypatch.setattr("peav.train.task_contrastive.evaluate", lambda *arguments: {"t2av": next(figures)})
    recipe = recipe_file(tmp_path, world, "best", evaluation={"every": 1, "keep": "t2av"})
    train(read_recipe(recipe), Silent())
    (kept,) = (tmp_path / "best" / "best").iterdir()
    assert kept.name == "step-0000002.pt"
    best, last = (read_state(path)["module"] for path in (kept, tmp_path / "best/checkpoints/step-0000006.pt"))
    saved = load_model(tmp_path / "best" / "model").state_dict()
    assert all(torch.equal(value, best[f"model.{name}"]) for name, value in saved.items())
    assert not all(torch.equal(value, last[f"model.{name}"]) for name, value in saved.items())


@pytest.mark.slow
def test_best_weights_of_a_run_that_was_removed_are_not_taken_for_this_ones(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_file(tmp_path, world, "stale", evaluation={"every": 1, "keep": "t2av"})
    for best in (5, 2):
        figures = iter([0.9 if step == best else 0.1 for step in range(1, 6)] + [0.0] * 3)
        monkeypatch.setattr(
            "peav.train.task_contrastive.evaluate", lambda *arguments, figures=figures: {"t2av": next(figures)}
        )
        train(read_recipe(recipe), Silent())
        (kept,) = (tmp_path / "stale" / "best").iterdir()
        assert kept.name == f"step-000000{best}.pt"
        shutil.rmtree(tmp_path / "stale" / "checkpoints")


@pytest.mark.slow
def test_a_best_that_a_resumed_run_would_want_is_kept_until_its_checkpoints_cover_the_next(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints every two steps: a run stopped in step four goes on from two, and the best of three is gone then."""
    figures = iter([0.5, 0.6, 0.7])
    monkeypatch.setattr("peav.train.task_contrastive.evaluate", lambda *arguments: {"t2av": next(figures)})
    recipe = recipe_file(tmp_path, world, "kept", evaluation={"every": 1, "keep": "t2av"})
    with pytest.raises(StopIteration):
        train(read_recipe(recipe), Silent())
    kept = [path.name for path in states(tmp_path / "kept" / "best")]
    assert kept == ["step-0000002.pt", "step-0000003.pt"]


def test_a_figure_that_does_not_exist_is_refused(world: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'loudness' is none of"):
        read_recipe(recipe_file(tmp_path, world, "none", evaluation={"keep": "loudness"}))


def test_near_misses_come_on_top_of_the_batch_right_after_the_clips_they_are_made_of(
    world: Path, tmp_path: Path
) -> None:
    class Seen(Collator):
        def __call__(self, rows, clips, rng, part=slice(None)):
            seen.append(list(rows))
            return super().__call__(rows, clips, rng, part)

    seen: list[list[Row]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("peav.train.run.Collator", Seen)
        source = {
            "place": str(world / "manifest.jsonl"),
            "transforms": [{"class": "word_swap", "share": 0.3, "copies": 2}],
        }
        recipe = recipe_file(tmp_path, world, "near", steps=2, data={"sources": [source]})
        train(read_recipe(recipe), Silent())
    batch = seen[0]
    assert len(batch) == 12
    for clip, *misses in zip(batch[::3], batch[1::3], batch[2::3], strict=True):
        assert clip.captions
        for near in misses:
            assert (near.id, near.captions, near.video_path) == (clip.id, {}, None)
            assert len(near.transcript.split()) == len(clip.transcript.split())
    pairs = zip(batch[1::3], batch[2::3], strict=True)
    assert any(one.transcript != other.transcript for one, other in pairs)


def test_a_source_too_light_for_a_batch_is_refused(world: Path, tmp_path: Path) -> None:
    manifest = str(world / "manifest.jsonl")
    changes = {"data": {"sources": [{"place": manifest, "weight": 99}, {"place": manifest}]}}
    with pytest.raises(TrainingError, match=r"takes \[4, 0\] clips"):
        train(read_recipe(recipe_file(tmp_path, world, "light", **changes)), Silent())


def test_pairs_share_a_weight_of_one_in_the_proportions_of_the_recipe() -> None:
    losses = {"best_rq": {"weight": 0}, "words": {"weight": 0.5}, "my/file.py:Own": {}}
    weights = loss_weights(Objective(pairs=("a_ac", "a_v"), weights={"a_ac": 3.0}, auxiliary=losses))
    assert weights == {"a_ac": 0.75, "a_v": 0.25, "words": 0.5, "Own": 1.0}


def test_the_learning_rate_warms_up_linearly_then_falls_as_a_cosine() -> None:
    rates = [learning_rate(step, 100, 10, 0.1) for step in range(100)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert all(earlier >= later for earlier, later in pairwise(rates[10:]))
