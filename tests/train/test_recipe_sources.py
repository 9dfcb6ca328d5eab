"""What a recipe's sources become before the first step."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import Silent, recipe_file

from peav.checkpoint import load_model, load_tokenizer, resolve
from peav.distributed import ALONE
from peav.features.store import FeatureCache
from peav.train import read_recipe
from peav.train.clips import gather
from peav.train.run import _task


def sound(path: Path, waveform: np.ndarray) -> str:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes((waveform * 32767).astype("<i2").tobytes())
    return path.name


@pytest.mark.slow
def test_a_mixed_source_trains_on_clips_in_which_something_is_heard_and_tells_what_is_mixed(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 24_000)
    lines = [
        {"path": sound(tmp_path / f"{name}.wav", noise), "label": name, "text": f"A {name}."} for name in ("a", "b")
    ]
    lines += [{"path": sound(tmp_path / "silent.wav", 0 * noise), "label": "c"}, {"path": "a.wav", "id": "unlabelled"}]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = {"place": str(manifest), "transforms": [{"class": "remix", "how": {"duration": 2, "events": [1, 3]}}]}
    changes = {"data": {"cache": str(tmp_path / "cache"), "sources": [source]}, "optim": {"batch_size": 8}}
    changes["objective"] = {"pairs": ["a_ac"], "auxiliary": {}}
    recipe = read_recipe(recipe_file(tmp_path, tmp_path, "run", **changes), {"model": json.dumps(str(resolve("tiny")))})
    clips = gather(recipe, Silent())
    assert [row.captions["audio"] for row in clips.sources[0]] == [["a a"], ["a b"], ["c"]]
    model, tokenizer = load_model("tiny"), load_tokenizer(resolve("tiny"))
    cache = FeatureCache(tmp_path / "cache", model)
    feed = _task(recipe, model, tokenizer, cache, clips, ALONE, torch.device("cpu")).feed
    assert len(feed.sources[0]) == 2
    batch = feed.batch(0)
    assert batch.audio_lengths.tolist() == [50] * 8
    assert batch.texts["audio"].present.all()
    told = tokenizer.decode_batch(batch.texts["audio"].ids.tolist())
    assert all("a a" in text or "a b" in text for text in told)
    assert any(" and " in text for text in told)


def test_a_manifest_that_is_a_source_twice_is_tested_on_once(world: Path, tmp_path: Path) -> None:
    manifest = str(world / "manifest.jsonl")
    sources = [
        {"place": manifest},
        {"place": manifest, "transforms": [{"class": "remix", "how": {"duration": 2}}]},
    ]
    recipe = read_recipe(recipe_file(tmp_path, world, "twice", data={"sources": sources}))
    once = read_recipe(recipe_file(tmp_path, world, "once", data={"sources": sources[:1]}))
    ids = [[row.id for row in gather(r, Silent()).test] for r in (recipe, once)]
    assert ids[0] == ids[1] != []


def test_synthetic_captions_are_for_the_clips_of_the_world_that_train(world: Path, tmp_path: Path) -> None:
    made = json.loads((world / "world.json").read_text())
    asked = {"class": "world", "folder": str(world), "train": 4, "validation": 2, "test": 2, "seed": made["seed"]}
    places = [asked, str(world / "manifest.jsonl")]
    sources = [{"place": place, "transforms": ["synthetic_captions"]} for place in places]
    recipe = read_recipe(recipe_file(tmp_path, world, "captioned", data={"sources": sources}))
    clips = gather(recipe, Silent())
    assert len(clips.sources[0]) == 4
    assert len(clips.sources[1]) > 4
    assert all(row.synthetic for rows in clips.sources for row in rows)
    assert not any(row.synthetic for row in [*clips.validation, *clips.test])
