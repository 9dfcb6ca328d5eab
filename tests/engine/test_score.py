"""Scores are similarities of captions and clips, whatever a clip is asked beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_model import random_encoder

from peav.data.manifest import Row
from peav.engine.clip import Answer, Clip, Sample, WeakCaption
from peav.engine.score import Clap, Scorer, Similarity
from peav.engine.stage import identity_of
from peav.features.decode import Decoded
from peav.types import Modality

RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 0.1, 48000 * 2).astype(np.float32)
PICTURE = RNG.integers(0, 255, (4, 48, 48, 3), np.uint8)


def sample(waveform: Any = None, frames: Any = None, **captions: tuple[Modality, str]) -> Sample:
    weak = {name: WeakCaption(text, kind, "m") for name, (kind, text) in captions.items()}
    return Sample(Clip("a", Row("a"), weak=weak), Decoded(waveform, frames))


def asked(stage: Scorer, *samples: Sample) -> list[dict[str, float | None]]:
    """What a stage answers, applied to the clips."""
    found = dict(stage(samples))
    for place, answer in found.items():
        assert isinstance(answer, Answer), answer
        stage.apply(samples[place].clip, answer.value)
    return [found[place].value for place in range(len(samples))]  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def similarity(tmp_path_factory: pytest.TempPathFactory) -> Similarity:
    folder = tmp_path_factory.mktemp("model")
    random_encoder().save_pretrained(folder)
    stage = Similarity(model=str(folder))
    stage.setup()
    return stage


def test_each_caption_is_compared_in_the_space_of_its_kind(similarity: Similarity) -> None:
    clip = sample(NOISE, PICTURE, one=("audio", "rain"), two=("video", "a car"), three=("audio_video", "rain"))
    (scores,) = asked(similarity, clip)
    encoder, how = similarity.encoder, {"normalize": True}
    both = {"audio": NOISE, "video": PICTURE}
    expected = {
        "one": encoder.encode_audio(NOISE, sampling_rate=48000, **how) @ encoder.encode_text("rain", "audio", **how),
        "two": encoder.encode_video(PICTURE, **how) @ encoder.encode_text("a car", "video", **how),
        "three": encoder.encode_audio_video(both, sampling_rate=48000, **how) @ encoder.encode_text("rain", **how),
    }
    assert scores == pytest.approx({name: float(score) for name, score in expected.items()}, abs=1e-5)
    assert {name: weak.score for name, weak in clip.clip.weak.items()} == scores


def test_a_score_does_not_depend_on_what_else_is_asked(similarity: Similarity) -> None:
    captions: dict[str, tuple[Modality, str]] = {"one": ("audio", "rain"), "two": ("audio", "a dog barking loudly")}
    alone = asked(similarity, sample(NOISE, PICTURE, **captions))
    beside = sample(NOISE[:50000], None, one=("audio", "a red car drives past a green house, and it rains"))
    assert asked(similarity, beside, sample(NOISE, PICTURE, **captions))[1:] == alone


def test_a_caption_of_a_stream_that_the_clip_lacks_has_no_score(similarity: Similarity) -> None:
    clip = sample(NOISE, None, one=("audio", "rain"), two=("video", "a car"))
    (scores,) = asked(similarity, clip)
    assert scores["one"] is not None
    assert scores["two"] is None
    assert clip.clip.weak["two"].score is None


def test_the_request_has_all_that_is_said_and_nothing_is_asked_where_nothing_is(similarity: Similarity) -> None:
    assert similarity.request(sample(one=("audio", "rain"), two=("video", "")).clip) == {"one": ["audio", "rain"]}
    assert similarity.request(sample(one=("audio", "")).clip) is None
    assert Clap(model="x").request(sample(one=("video", "a car")).clip) is None


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Clap:
    """A tiny CLAP of random weights, in a directory as transformers keeps them."""
    transformers = pytest.importorskip("transformers", reason="CLAP is transformers'")
    import torch

    folder = tmp_path_factory.mktemp("clap")
    torch.manual_seed(0)
    tokenizer = random_encoder().tokenizer
    assert tokenizer is not None
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", model_max_length=32
    ).save_pretrained(folder)
    text = {
        "vocab_size": tokenizer.get_vocab_size(), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 64, "pad_token_id": tokenizer.token_to_id("[PAD]"),
    }  # fmt: skip
    audio = {
        "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [1, 2], "hidden_size": 16,
        "spec_size": 64, "num_mel_bins": 16, "window_size": 4, "patch_size": 4, "patch_stride": [4, 4],
        "enable_fusion": False, "projection_dim": 8,
    }  # fmt: skip
    config = transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=8)
    transformers.ClapModel(config).save_pretrained(folder)
    transformers.ClapFeatureExtractor(
        feature_size=16, sampling_rate=48000, max_length_s=1, truncation="rand_trunc", padding="repeatpad"
    ).save_pretrained(folder)
    stage = Clap(model=str(folder))
    stage.setup()
    return stage


@pytest.mark.slow
def test_clap_scores_captions_of_sound_by_the_cosine_of_its_embeddings(clap: Clap) -> None:
    import torch

    clip = sample(NOISE[:40000], PICTURE, one=("audio", "rain"), two=("video", "a car"))
    (scores,) = asked(clap, clip)
    assert scores.keys() == {"one"}
    inputs = clap.tokenizer(["rain"], return_tensors="pt") | clap.extractor(
        [NOISE[:40000]], sampling_rate=48000, return_tensors="pt"
    )
    with torch.inference_mode():
        out = clap.clap(**inputs)
    assert scores["one"] == pytest.approx(float(out.audio_embeds[0] @ out.text_embeds[0]), abs=1e-5)
    assert clip.clip.weak["one"].score == scores["one"]
    assert clip.clip.weak["two"].score is None


@pytest.mark.slow
def test_clap_hears_all_of_a_long_clip_and_the_same_twice(clap: Clap) -> None:
    tone = np.sin(np.arange(96000) / 20).astype(np.float32)
    clips = [sample(sound, one=("audio", "rain")) for sound in (NOISE, NOISE, np.concatenate([NOISE, tone]))]
    first, again, longer = asked(clap, *clips)
    assert first == again
    assert longer != first


@pytest.mark.slow
def test_clap_of_other_files_is_another_identity(clap: Clap, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert identity_of(clap) == identity_of(Clap(model=clap.model, device="cuda"))
    assert Clap(model=str(tmp_path)).identity()["files"] != clap.identity()["files"]
