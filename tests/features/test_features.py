"""Cached features are what the model would compute, made once, and bad clips are named."""

from __future__ import annotations

import logging
import os
import re
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from media.make import patch, pictures, tone, write_video

from peav.data.manifest import Row, read_manifest
from peav.features.prepare import prepare
from peav.features.prepared import read_prepared
from peav.features.store import FeatureCache
from peav.media import StreamWarning, load_audio, load_frames
from peav.model import PEAV, preset
from peav.synth.world import generate


@pytest.fixture(scope="module")
def model() -> PEAV:
    torch.manual_seed(0)
    return PEAV(preset("nano")).eval()


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> Row:
    folder = tmp_path_factory.mktemp("clips")
    generate(folder, 6, seed=2, splits=("train",))
    return next(row for row in read_manifest(folder / "manifest.jsonl") if len(row.captions) == 3)


@pytest.mark.slow
def test_features_are_the_codecs_latents_and_the_resized_frames(model: PEAV, row: Row, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, model)
    assert cache.prepare([row]) == ([row], [])
    features = cache.load(row)
    assert row.audio_path is not None
    waveform = load_audio(row.audio_path)
    padded = np.pad(waveform, (0, -len(waveform) % 1920), mode="reflect")
    with torch.inference_mode():
        latents = model.encode_codec(torch.from_numpy(padded)[None])[0].half().numpy()
    assert np.array_equal(features.latents, latents)
    assert np.array_equal(features.frames, load_frames(row.video_path, num_frames=4, size=32).pixels)


@pytest.mark.slow
def test_a_clip_is_computed_once(model: PEAV, row: Row, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, model)
    cache.prepare([row])
    written = cache.path(row).stat().st_mtime_ns
    cache.prepare([row])
    assert cache.path(row).stat().st_mtime_ns == written


@pytest.mark.slow
def test_a_stream_that_cannot_be_used_costs_itself(model: PEAV, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", pictures(50), sound=tone(2.0), sound_codec="alac")
    shutil.copy(path, tmp_path / "bad_video.mp4")
    patch(path, b"alac", b"zz9z")
    patch(tmp_path / "bad_video.mp4", b"avc1", b"zz9z")
    seen = Row("seen", audio_path=path, video_path=path)
    heard = Row("heard", audio_path=tmp_path / "bad_video.mp4", video_path=tmp_path / "bad_video.mp4")
    only = Row("only", audio_path=path)
    cache = FeatureCache(tmp_path / "cache", model)
    with pytest.warns(StreamWarning) as told:
        good, failed = cache.prepare([seen, heard, only])
    assert sorted(re.findall(r"(\w+)\.mp4.*without its (\w+)", "\n".join(str(w.message) for w in told))) == [
        ("a", "audio"),
        ("bad_video", "video"),
    ]
    assert good == [seen, heard]
    assert [(row, type(error).__name__) for row, error in failed] == [(only, "UndecodableError")]
    assert [cache.streams(row) for row in good] == [(False, True), (True, False)]
    assert [set(cache.load(row).arrays()) for row in good] == [{"frames"}, {"latents"}]
    prepare([seen, heard], str(tmp_path / "shards"), model, name="tiny", root=tmp_path)
    shards = FeatureCache(tmp_path / "other", model)
    assert [shards.streams(row) for row in read_prepared(str(tmp_path / "shards"))] == [(False, True), (True, False)]


def write_noise(path: Path, seed: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes(np.random.default_rng(seed).integers(-9000, 9000, 24_000, dtype=np.int16).tobytes())
    return path


@pytest.mark.slow
@pytest.mark.parametrize("later", [-3600, 3600])
def test_a_file_in_the_place_of_another_has_features_of_its_own_whichever_is_older(
    model: PEAV, row: Row, tmp_path: Path, later: int
) -> None:
    first, second = (write_noise(tmp_path / f"{seed}.wav", seed) for seed in range(2))
    os.utime(second, (first.stat().st_mtime + later,) * 2)
    clip, cache = Row("a", audio_path=tmp_path / "a.wav"), FeatureCache(tmp_path / "cache", model)
    found = []
    for path in (first, second):
        shutil.copy2(path, tmp_path / "a.wav")
        cache.prepare([clip])
        prepare([clip], str(tmp_path / "shards"), model, name="tiny", root=tmp_path)
        found.append(cache.load(clip).latents)
        assert np.array_equal(cache.load(read_prepared(str(tmp_path / "shards"))[0]).latents, found[-1])
    assert not np.array_equal(*found)
    (tmp_path / "a.wav").unlink()
    assert cache.prepare([clip]) == ([clip], [])  # what is there is kept when the media are gone


def test_another_codec_never_reads_these_latents(model: PEAV, tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = PEAV(preset("nano"))
    assert FeatureCache(tmp_path, model).folder != FeatureCache(tmp_path, other).folder


@pytest.mark.slow
def test_waveforms_are_kept_in_whole_hops_for_a_codec_that_trains(model: PEAV, row: Row, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, model, keep_waveform=True, max_seconds=1.0)
    cache.prepare([row])
    features = cache.load(row)
    assert features.latents is None
    assert features.waveform is not None
    assert features.waveform.shape == (48000,)


@pytest.mark.slow
def test_a_clip_that_does_not_decode_is_returned_with_its_reason(model: PEAV, row: Row, tmp_path: Path) -> None:
    missing = Row(id="gone", audio_path=tmp_path / "gone.wav", video_path=tmp_path / "gone.wav")
    good, failed = FeatureCache(tmp_path, model).prepare([missing, row])
    assert good == [row]
    assert [(bad.id, type(error).__name__) for bad, error in failed] == [("gone", "MissingFileError")]


@pytest.mark.slow
def test_a_damaged_cached_feature_is_made_again(
    model: PEAV, row: Row, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = FeatureCache(tmp_path, model)
    cache.prepare([row])
    path, whole = cache.path(row), cache.load(row)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])  # found before training
    assert cache.prepare([row]) == ([row], [])
    assert np.array_equal(cache.load(row).latents, whole.latents)
    flipped = bytearray(path.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    path.write_bytes(flipped)  # found when it is read
    again = cache.load(row)
    ((logger, level, said),) = caplog.record_tuples
    assert (logger, level) == ("peav.features.store", logging.WARNING)
    assert re.search(rf"{path.name}: damaged features .*; they are made again", said)
    assert np.array_equal(again.latents, whole.latents)
    assert np.array_equal(again.frames, whole.frames)
    assert np.array_equal(cache.load(row).frames, whole.frames)
