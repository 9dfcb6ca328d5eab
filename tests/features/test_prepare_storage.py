"""Prepared folders in object storage: two who write lose nothing, what is torn is made again, many are read at once."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from noise_tar import clips, tar
from s3_server import S3Server

from peav.checkpoint import load_model
from peav.data.manifest import Row
from peav.data.webdataset import read_webdataset
from peav.features.extract import ClipFeatures
from peav.features.prepare import Clip, Prepared, Shards, prepare
from peav.features.prepared import PreparedClip, read_prepared
from peav.features.store import FeatureCache, clip_bytes
from peav.model import PEAV
from peav.utils.remote import ROUND_TRIPS
from peav.utils.storage import join, read_all, remove, write_all

TAR = "s3://clips/prepared/clips.tar"


def clip(name: str) -> tuple[Clip, bytes]:
    latents = np.random.default_rng(list(name.encode())).normal(size=(25, 4)).astype(np.float16)
    return Clip(name, "", Row(name)), clip_bytes(ClipFeatures(latents=latents), "")


@pytest.fixture(scope="module")
def tiny() -> PEAV:
    model = load_model("tiny").float()
    assert isinstance(model, PEAV)
    return model


@pytest.fixture
def rows(s3: S3Server) -> list[Row]:
    write_all(TAR, tar(clips(6)))
    return read_webdataset(TAR)


@pytest.mark.slow
def test_two_who_write_at_once_lose_no_clip(s3: S3Server) -> None:
    folder = "s3://clips/two"
    writers = [Shards(folder) for _ in range(4)]
    names = [[f"{who}-{i}" for i in range(3)] for who in range(len(writers))]
    threads = [
        threading.Thread(target=lambda one, mine: [one.write([clip(name)]) for name in mine], args=pair)
        for pair in zip(writers, names, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Shards(folder).places
    assert sorted(found) == sorted(name for mine in names for name in mine)
    for name, place in found.items():
        one = PreparedClip(path=join(folder, place.pop("shard")), **place)
        assert one.read() == clip(name)[1]


@pytest.mark.slow
def test_a_run_within_another_ones_loses_nothing_of_either(rows: list[Row], tiny: PEAV, tmp_path: Path) -> None:
    folder = "s3://clips/within"

    def other(done: int) -> None:
        if done == 2:
            assert prepare(rows[3:], folder, tiny, name="tiny", root=tmp_path, shard_clips=2).computed == 3

    assert prepare(rows[:3], folder, tiny, name="tiny", root=tmp_path, shard_clips=2, progress=other).computed == 3
    assert prepare(rows, folder, tiny, name="tiny", root=tmp_path) == Prepared(6, 0, 0)
    assert [row.id for row in read_prepared(folder)] == [row.id for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["torn", "gone"])
def test_a_shard_that_is_torn_or_gone_is_seen_and_made_again(
    rows: list[Row], tiny: PEAV, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = f"s3://clips/{how}"
    assert prepare(rows, folder, tiny, name="tiny", root=tmp_path, shard_clips=3).computed == 6
    cache = FeatureCache(tmp_path, tiny)
    before = [cache.load(row).latents for row in read_prepared(folder)]
    shard = join(folder, "shard-000001.tar")
    second = json.loads(read_all(join(folder, "shard-000001.jsonl")).splitlines()[1])
    write_all(shard, read_all(shard)[: second["offset"] + 9]) if how == "torn" else remove(shard)
    lost = 2 if how == "torn" else 3
    with caplog.at_level(logging.WARNING, "peav"):
        assert prepare(rows, folder, tiny, name="tiny", root=tmp_path) == Prepared(6, lost, 0)
    assert f"{shard}: ends early; the features of {lost} clips are made again" in caplog.messages
    after = [cache.load(row).latents for row in read_prepared(folder)]
    assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True))


@pytest.mark.slow
def test_a_tar_in_the_place_of_another_has_features_of_its_own(s3: S3Server, tiny: PEAV, tmp_path: Path) -> None:
    """Names, offsets, sizes and times to the second agree: only the content differs."""
    cache, latents = FeatureCache(tmp_path / "cache", tiny), []
    for first in (0, 10):
        write_all(TAR, tar(clips(1, first)))
        (row,) = read_webdataset(TAR, str(tmp_path / "index"))
        assert cache.prepare([row]) == ([row], [])
        latents.append(cache.load(row).latents)
        prepare([row], str(tmp_path / "shards"), tiny, name="tiny", root=tmp_path)
        (prepared,) = read_prepared(str(tmp_path / "shards"))
        assert np.array_equal(cache.load(prepared).latents, latents[-1])
    assert not np.array_equal(*latents)


@pytest.mark.slow
def test_a_batch_is_read_with_many_requests_at_once(s3: S3Server, tiny: PEAV, tmp_path: Path) -> None:
    folder, names = "s3://clips/batch", [f"{i:02d}" for i in range(2 * ROUND_TRIPS)]
    shards = Shards(folder)
    shards.write([clip(name) for name in names])
    places = [dict(shards.places[name]) for name in names]
    parts = [PreparedClip(path=join(folder, place.pop("shard")), **place) for place in places]
    s3.reset()
    s3.fault = lambda request: 0.5
    loaded = FeatureCache(tmp_path, tiny).load_all([Row(part.name, audio_path=part) for part in parts])
    assert [clip_bytes(one, "") for one in loaded] == [clip(name)[1] for name in names]
    assert ROUND_TRIPS / 2 < s3.most <= ROUND_TRIPS  # all of them at once on a machine that is not busy
    assert len(s3.requests) == len(names)
