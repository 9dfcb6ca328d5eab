"""Filters: what is measured tells what the name says, and a bar can be moved without measuring again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_model import random_encoder

from peav.data.manifest import Row
from peav.engine.ask import CUT
from peav.engine.clip import Answer, Clip, Sample
from peav.engine.embedding import Embedding, Mismatch, from_text
from peav.engine.filters import Duration, License, Silence, Static
from peav.engine.hashes import Hashes, audio_hash, frames_hash
from peav.engine.stage import STAGES, Stage, identity_of
from peav.errors import RecipeError
from peav.features.decode import Decoded, decode
from peav.media.write import write_media
from peav.utils.plugins import load_class

RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 0.1, 48000 * 2).astype(np.float32)
PICTURE = np.kron(RNG.integers(0, 255, (1, 12, 12, 3), np.uint8), np.ones((1, 4, 4, 1), np.uint8))  # (1, 48, 48, 3)


def sample(waveform: np.ndarray | None = None, frames: np.ndarray | None = None, **row: Any) -> Sample:
    return Sample(Clip("a", Row("a", **row), measures={"duration": 2.0}), Decoded(waveform, frames))


def asked(stage: Stage, *samples: Sample) -> list[Any]:
    """What a stage answers, applied to the clips."""
    found = dict(stage(samples))
    for place, answer in found.items():
        assert isinstance(answer, Answer), answer
        stage.apply(samples[place].clip, answer.value)
    return [found[place].value for place in range(len(samples))]  # type: ignore[union-attr]


def test_every_short_name_is_a_stage_of_that_name() -> None:
    for name in ("silence", "static", "duration", "hashes", "embedding", "mismatch", "similarity", "clap"):
        assert load_class(name, Stage, STAGES)().name == name  # type: ignore[call-arg]
    assert load_class("license", Stage, STAGES)


def test_a_faint_clip_is_silent_and_one_short_sound_in_it_is_enough_to_stay() -> None:
    one_bark = np.zeros(48000 * 30, np.float32)
    one_bark[48000 : 48000 + 14400] = NOISE[:14400]
    clips = [sample(NOISE), sample(NOISE * 1e-3), sample(one_bark), sample(one_bark * 0), sample(None, PICTURE)]
    levels = asked(Silence(), *clips)
    assert levels[:2] == pytest.approx([-20, -80], abs=0.3)
    assert levels[2] == pytest.approx(-20, abs=0.3)
    assert levels[3:] == [-120.0, None]
    assert [one.clip.open for one in clips] == [True, False, True, False, True]
    assert clips[3].clip.filtered == "silence: -120.0 dB, below -60 dB"


def test_a_bar_can_be_moved_without_measuring_again() -> None:
    assert identity_of(Silence(min_db=-60.0)) == identity_of(Silence(min_db=-10.0))
    assert identity_of(Static(min_motion=0.1)) == identity_of(Static(min_motion=9.0))
    assert identity_of(Mismatch(min_similarity=0.1)) == identity_of(Mismatch(min_similarity=0.5, device="cpu"))
    clip = sample(NOISE)
    Silence(min_db=-10.0).apply(clip.clip, -20.0)
    assert clip.clip.filtered == "silence: -20.0 dB, below -10 dB"


def test_a_picture_that_stands_still_is_static_for_all_its_noise() -> None:
    still = np.repeat(PICTURE, 16, 0)
    noisy = np.clip(still + RNG.normal(0, 3, still.shape), 0, 255).astype(np.uint8)
    moving = np.stack([np.roll(PICTURE[0], 2 * step, 1) for step in range(16)])
    clips = [sample(None, still), sample(None, noisy), sample(None, moving), sample(NOISE, None)]
    motion = asked(Static(), *clips)
    assert motion[0] == 0.0
    assert motion[1] < 0.5 < motion[2]
    assert motion[3] is None
    assert [one.clip.open for one in clips] == [False, False, True, True]


def test_a_clip_that_is_too_short_or_too_long_is_left_out() -> None:
    clips = [sample(NOISE) for _ in range(3)]
    for clip, seconds in zip(clips, (0.5, 2.0, 30.5), strict=True):
        clip.clip.measures["duration"] = seconds
    asked(Duration(), *clips)
    assert [one.clip.filtered for one in clips] == [
        "duration: 0.50 s, below 1 s",
        None,
        "duration: 30.50 s, above 30 s",
    ]


def test_licenses_are_compared_by_pattern_in_any_case_and_rows_without_one_by_choice() -> None:
    allowed = License("license", ["CC0*", "cc-by-[1-4]*"])
    names = ["cc0 (someone)", "CC-BY-3.0 (Blender)", "CC-BY-NC-4.0", None, " "]
    clips = [sample(license=name) for name in names]
    asked(allowed, *clips)
    assert [one.clip.open for one in clips] == [True, True, False, False, False]
    assert clips[2].clip.filtered == "license: CC-BY-NC-4.0 is not allowed"
    assert clips[3].clip.filtered == "license: the row has none"
    lax = sample()
    asked(replace(allowed, unlicensed=True), lax)
    assert lax.clip.open


@pytest.mark.parametrize("allowed", [(), "CC0"])
def test_a_license_filter_that_allows_none_is_refused(allowed: Any) -> None:
    with pytest.raises(RecipeError, match="allowed"):
        License("license", allowed)


def apart(a: str | None, b: str | None) -> int:
    return (int(a or "", 16) ^ int(b or "", 16)).bit_count()


def test_hashes_tell_nothing_of_silence_and_of_pictures_of_one_color() -> None:
    assert audio_hash(NOISE * 0) is None
    assert audio_hash(NOISE[:4800]) is None
    assert frames_hash(np.full((16, 64, 64, 3), 90, np.uint8)) is None
    clip = sample(None, PICTURE)
    (value,) = asked(Hashes(), clip)
    assert clip.clip.measures["hashes"] == value
    assert (value["audio"], len(value["frames"])) == (None, 64)


@pytest.mark.slow
def test_hashes_of_real_clips_stay_near_when_coded_again_and_are_far_from_others(shared: Path, tmp_path: Path) -> None:
    found = []
    for name in ("bbb_10", "tos_20", "pe_train_a"):
        path = shared / "data" / "av_misc" / "video" / f"{name}.mp4"
        first = decode(path, path, None, 8.0, CUT)
        assert first.waveform is not None
        assert first.frames is not None
        again = tmp_path / f"{name}.mp4"
        write_media(again, "mp4", audio=[first.waveform / 2], audio_options={"b": "64000"})
        second = decode(again, None, None, 8.0, CUT)
        assert second.waveform is not None
        write_media(again, "mp4", video=first.frames[:, ::3, ::3], fps=2, video_options={"crf": "32"})
        coded = decode(None, again, None, 8.0, CUT).frames
        assert coded is not None
        pair = [
            (audio_hash(first.waveform), frames_hash(first.frames)),
            (audio_hash(second.waveform), frames_hash(coded)),
        ]
        assert apart(pair[0][0], pair[1][0]) <= 20
        assert apart(pair[0][1], pair[1][1]) <= 20
        found.append(pair[0])
    for place in range(3):
        for kind in range(2):
            assert apart(found[place][kind], found[place - 1][kind]) > 60


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of random weights."""
    folder = tmp_path_factory.mktemp("model")
    random_encoder().save_pretrained(folder)
    return str(folder)


def test_a_clip_is_embedded_with_all_streams_that_it_has(model: str) -> None:
    stage = Embedding(model=model)
    stage.setup()
    clips = [sample(NOISE, PICTURE), sample(NOISE), sample(None, PICTURE)]
    values = asked(stage, *clips)
    assert [value["space"] for value in values] == ["audio_video", "audio", "video"]
    one = stage.encoder.encode_audio(NOISE, sampling_rate=48000, normalize=True)
    assert from_text(values[1]["values"]) == pytest.approx(one, abs=1e-3)
    assert clips[1].clip.measures["embedding"] == values[1]


def test_an_answer_about_a_clip_does_not_depend_on_its_neighbors(model: str) -> None:
    stage = Embedding(model=model)
    stage.setup()
    alone = asked(stage, sample(NOISE, PICTURE))
    assert asked(stage, sample(NOISE[:30000], PICTURE), sample(NOISE, PICTURE), sample(NOISE))[1:2] == alone


def test_mismatch_is_the_cosine_of_sound_and_picture_and_none_where_one_lacks(model: str) -> None:
    stage = Mismatch(model=model, min_similarity=1.5)
    stage.setup()
    clips = [sample(NOISE, PICTURE), sample(NOISE)]
    values = asked(stage, *clips)
    sound = stage.encoder.encode_audio(NOISE, sampling_rate=48000, normalize=True)
    picture = stage.encoder.encode_video(PICTURE, normalize=True)
    assert values == [pytest.approx(float(sound @ picture), abs=1e-5), None]
    assert str(clips[0].clip.filtered).endswith("of sound and picture, below 1.5")
    assert clips[1].clip.open


def test_stages_that_ask_one_model_embed_a_clip_once(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Embedding(model=model), Mismatch(model=model)
    first.setup()
    second.setup()
    clips = [sample(NOISE, PICTURE), sample(NOISE)]
    embedded, stream = [], first.encoder.stream
    monkeypatch.setattr(
        first.encoder, "stream", lambda inputs, *a, **k: embedded.extend(inputs) or stream(inputs, *a, **k)
    )
    asked(first, *clips)
    once = asked(second, *clips)
    assert len(embedded) == 2
    assert asked(second, sample(NOISE, PICTURE), sample(NOISE)) == once  # the answers are the same in another run
    assert len(embedded) == 4


def test_other_weights_are_another_identity(model: str, tmp_path: Path) -> None:
    random_encoder(seed=1).save_pretrained(tmp_path)
    first, second = Embedding(model=model).identity(), Embedding(model=str(tmp_path)).identity()
    assert first["model_id"] != second["model_id"]
