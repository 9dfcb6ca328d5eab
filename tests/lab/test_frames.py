"""The frame encoder learns words from frames, and frozen it gives the same features as alive."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from peav.data.manifest import Row, read_manifest
from peav.errors import RecipeError
from peav.features.store import FeatureCache
from peav.lab.frames import PretrainFrames, caption_words, pretrain_frames
from peav.model import PEAV, preset


@pytest.fixture(scope="module")
def rows(world: Path) -> list[Row]:
    return read_manifest(world / "manifest.jsonl")


@pytest.fixture
def cache(rows: list[Row], world: Path) -> FeatureCache:
    torch.manual_seed(0)
    cache = FeatureCache(world / "cache", PEAV(preset("nano")))
    cache.prepare(rows)
    return cache


def test_words_of_middling_frequency_are_learnt() -> None:
    rows = [Row(id=str(i), captions={"video": [f"A thing{i % 4}, here"]}) for i in range(8)]
    assert caption_words(rows) == ["thing0", "thing1", "thing2", "thing3"]


@pytest.mark.slow
def test_pretraining_lowers_the_loss_and_moves_nothing_but_the_frame_encoder(
    cache: FeatureCache, rows: list[Row]
) -> None:
    model = cache.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses: list[float] = []
    config = PretrainFrames(steps=30, batch_size=8)
    pretrain_frames(model, rows, cache, config, 0, progress=lambda _, x: losses.append(x))
    assert sum(losses[-5:]) < sum(losses[:5])
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("video.frame_encoder.") for name in moved)


@pytest.mark.slow
def test_pretraining_without_visual_captions_is_refused(cache: FeatureCache, rows: list[Row]) -> None:
    with pytest.raises(RecipeError, match="no visual captions"):
        pretrain_frames(cache.model, [Row(id="x", captions={"audio": ["rain"]})], cache, PretrainFrames(steps=1), 0)


@pytest.mark.slow
def test_frozen_features_are_what_the_frame_encoder_makes_of_the_cached_frames(
    cache: FeatureCache, rows: list[Row]
) -> None:
    frozen = cache.with_frozen_frames()
    good, failed = frozen.prepare(rows)
    assert (good, failed) == (rows, [])
    for row in rows:
        pixels, features = cache.load(row), frozen.load(row)
        if pixels.frames is None:
            assert features.frames is None
            continue
        with torch.no_grad():
            alive = cache.model.frame_features(torch.from_numpy(pixels.frames).permute(0, 3, 1, 2).float() / 127.5 - 1)
        torch.testing.assert_close(torch.from_numpy(features.frames).float(), alive, rtol=2e-3, atol=1e-3)


@pytest.mark.slow
def test_another_frame_encoder_never_reads_these_features(cache: FeatureCache) -> None:
    first = cache.with_frozen_frames().folder
    with torch.no_grad():
        cache.model.video.frame_encoder.proj.bias += 1
    assert cache.with_frozen_frames().folder != first
