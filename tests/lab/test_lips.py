"""The frame encoder learns which word is being said from the pictures of a speaker."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from training_runs import Silent, recipe_file

from peav.checkpoint import load_model
from peav.data.manifest import Row, read_manifest
from peav.errors import RecipeError
from peav.features.store import FeatureCache
from peav.lab import frames
from peav.lab.frames import PretrainFrames, pretrain_frames
from peav.lab.lips import CLIPS, STRETCH, Lips
from peav.model import PEAV, preset
from peav.train import read_recipe, train
from peav.train.initialize import InitContext
from peav.types import Word

FPS, LENGTH = 25, 2.0


@pytest.fixture(scope="module")
def speakers(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Two clips of three words; the left half of the picture is lit while "la" is said, the right half with "mo"."""
    folder = tmp_path_factory.mktemp("speakers")
    rows = []
    for number, said in enumerate((("la", "mo", "la"), ("mo", "la", "mo"))):
        words = tuple(Word(word, 0.2 + 0.6 * i, 0.6 + 0.6 * i) for i, word in enumerate(said))
        path = folder / f"{number}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=FPS)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            for frame in range(round(LENGTH * FPS)):
                picture = np.full((64, 64, 3), 60, np.uint8)
                for word in words:
                    if word.start <= frame / FPS < word.end:
                        picture[:, slice(0, 32) if word.word == "la" else slice(32, 64)] = 220
                shown = av.VideoFrame.from_ndarray(picture, format="rgb24")
                shown.pts, shown.time_base = frame, Fraction(1, FPS)
                container.mux(stream.encode(shown))
            container.mux(stream.encode())
        rows.append(Row(str(number), video_path=path, words=words))
    return rows


def test_every_frame_that_is_drawn_has_the_word_that_is_said_at_it(speakers: list[Row]) -> None:
    lips = Lips(speakers, 64, 8)
    assert set(lips.vocabulary) == {"la", "mo"}
    for seed in range(5):
        pixels, labels = lips.draw(np.random.default_rng(seed))
        assert pixels.shape == (CLIPS, STRETCH, 64, 64, 3)
        light = pixels.float().mean((2, 4))
        left, right = light[..., 8:24].mean(-1), light[..., 40:56].mean(-1)
        assert torch.equal(labels == 0, (left - right).abs() < 30)
        # Mirrored stretches have their halves swapped; within one the same half goes with the same word.
        for row, said, difference in zip(pixels, labels, left - right, strict=True):
            sides = {word: set((difference[said == word] > 0).tolist()) for word in (1, 2)}
            assert all(len(side) <= 1 for side in sides.values()), row.shape
            assert sides[1] != sides[2] or not sides[1]


def test_words_are_timed_from_where_the_clip_begins_in_its_file(speakers: list[Row]) -> None:
    row = speakers[0]
    words = tuple(replace(word, start=word.start - 0.5, end=word.end - 0.5) for word in row.words[1:])
    later = Lips([replace(row, start=0.5, words=words)], 64, 8)
    for seed in range(3):
        pixels, labels = later.draw(np.random.default_rng(seed))
        light = pixels.float().mean((2, 4))
        lit = (light[..., 8:24].mean(-1) - light[..., 40:56].mean(-1)).abs() >= 30
        assert not ((labels > 0) & ~lit).any()
        assert (labels > 0).any()


@pytest.mark.slow
def test_the_words_of_lips_are_learnt_beside_those_of_captions(speakers: list[Row], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PEAV(preset("nano"))
    cache = FeatureCache(tmp_path, model)
    rows = [replace(speakers[i % 2], id=str(i), captions={"video": [f"thing{i}"]}) for i in range(4)]
    cache.prepare(rows)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with_lips, without = [list[float](), list[float]()]
    config = PretrainFrames(steps=20, batch_size=4)
    pretrain_frames(model, rows, cache, config, 0, speakers=rows, progress=lambda _, x: with_lips.append(x))
    moved = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert all(name.startswith("video.frame_encoder.") for name in moved)
    model.load_state_dict(before)
    pretrain_frames(model, rows, cache, config, 0, progress=lambda _, x: without.append(x))
    assert with_lips[0] > without[0] + 2  # ln 3 for each frame, five times
    assert with_lips[-1] < 0.85 * with_lips[0]


def test_a_source_whose_lips_cannot_be_read_is_refused(speakers: list[Row]) -> None:
    with pytest.raises(RecipeError, match="no clip of the source has pictures and timed words"):
        Lips([Row("x", audio_path=Path("a"), words=speakers[0].words)], 64, 8)


@pytest.mark.slow
def test_a_model_takes_as_many_frames_as_the_recipe_says_from_then_on(world: Path, tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, world, "three", steps=1, frames={"num_frames": 3, "frozen": True})
    train(read_recipe(recipe), Silent())
    model = load_model(tmp_path / "three" / "model")
    assert model.config.video.num_frames == 3
    cache = FeatureCache(world / "cache", model).with_frozen_frames()
    seen = [cache.load(row).frames for row in read_manifest(world / "manifest.jsonl", "train")]
    assert {len(frames) for frames in seen if frames is not None} == {3}


def test_the_lips_of_the_sources_that_ask_for_it_are_read(
    speakers: list[Row], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [{"class": "world"}, "a.jsonl", "b.jsonl"]
    recipe = read_recipe(recipe_file(tmp_path, world, "run"))
    read: list[list[Row]] = []
    monkeypatch.setattr(frames, "pretrain_frames", lambda *_, speakers, **__: read.append(speakers))
    model = PEAV(preset("nano"))
    features = FeatureCache(tmp_path / "cache", model)
    sources = [speakers[:1], [], speakers[1:]]
    context = InitContext(recipe, True, places, sources, [False] * 3, features, tmp_path / "cache", Silent())
    for lips in (("b.jsonl",), ("a.jsonl",), ()):
        PretrainFrames(steps=1, lips=lips).run(model, context)
    assert read == [speakers[1:], [], []]
    PretrainFrames(steps=1, lips=("b.jsonl",)).run(model, context)
    assert len(read) == 3  # it finds what the first has made
    with pytest.raises(RecipeError, match=r"lips: c\.jsonl is the place of no source"):
        PretrainFrames(steps=1, lips=("c.jsonl",)).run(model, context)
