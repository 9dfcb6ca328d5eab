"""Prepared folders: features in shards, made once, whole or absent, and refused by another model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from peav.checkpoint import load_model
from peav.data.manifest import Row, read_manifest
from peav.errors import PreparedError, StorageError
from peav.features.decode import Decoded
from peav.features.extract import ClipFeatures, FeatureExtractor
from peav.features.failures import TooManyFailures
from peav.features.prepare import Prepared, feature_spec, prepare
from peav.features.prepared import PreparedClip, check_prepared, read_prepared
from peav.features.store import FeatureCache
from peav.jobs import Stopped
from peav.model import PEAV
from peav.synth.world import generate
from peav.utils.lock import FolderLock
from peav.utils.storage import names_in, read_all


@pytest.fixture(scope="module")
def model() -> PEAV:
    model = load_model("tiny").float()
    assert isinstance(model, PEAV)
    return model


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    generate(folder, 7, seed=2)
    return folder


@pytest.fixture(scope="module")
def rows(root: Path) -> list[Row]:
    return read_manifest(root / "manifest.jsonl")


def run(rows: list[Row], folder: str | Path, model: PEAV, root: Path, **settings) -> Prepared:
    return prepare(rows, str(folder), model, name="tiny", root=root, **{"shard_clips": 3, **settings})


def same(one: ClipFeatures, other: ClipFeatures) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in vars(one)]
    return all(np.array_equal(a, b) and getattr(a, "dtype", None) == getattr(b, "dtype", None) for a, b in pairs)


@pytest.fixture(scope="module")
def made(rows: list[Row], model: PEAV, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    assert run(rows, folder, model, root) == Prepared(7, 7, 0)
    return folder


@pytest.mark.slow
def test_a_second_process_in_the_same_folder_is_refused(
    rows: list[Row], model: PEAV, root: Path, tmp_path: Path
) -> None:
    lock = FolderLock(tmp_path / "out")
    with pytest.raises(PreparedError, match="another process"):
        run(rows[:1], tmp_path / "out", model, root)
    lock.release()
    assert run(rows[:1], tmp_path / "out", model, root).clips == 1
    assert not (tmp_path / "out" / "lock").exists()


@pytest.mark.slow
def test_prepared_rows_and_features_are_those_of_the_manifest_and_its_media(
    made: Path, rows: list[Row], model: PEAV, tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path, model)
    cache.prepare(rows)
    frozen = cache.with_frozen_frames()
    frozen.prepare(rows)
    prepared = read_prepared(str(made))
    assert frozen.prepare(prepared) == (prepared, [])
    for row, clip in zip(rows, prepared, strict=True):
        assert replace(clip, audio_path=row.audio_path, video_path=row.video_path) == row
        assert (clip.audio_path is None, clip.video_path is None) == (row.audio_path is None, row.video_path is None)
        assert same(frozen.load(clip), frozen.load(row))
        assert frozen.streams(clip) == frozen.streams(row)
    assert all(same(a, b) for a, b in zip(frozen.load_all(prepared), map(frozen.load, prepared), strict=True))


@pytest.mark.slow
def test_shards_are_plain_tars_whose_indices_tell_where_each_clip_lies(made: Path) -> None:
    names = [name for name in names_in(str(made)) if name.endswith(".tar")]
    assert names == ["shard-000000.tar", "shard-000001.tar", "shard-000002.tar"]
    with tarfile.open(made / names[0]) as tar:
        index = [json.loads(line) for line in (made / "shard-000000.jsonl").read_text().splitlines()]
        members = [(member.name, member.offset_data, member.size) for member in tar]
    assert members == [(f"{line['name']}.safetensors", line["offset"], line["size"]) for line in index]


@pytest.mark.slow
def test_nothing_is_computed_twice(made: Path, rows: list[Row], model: PEAV, root: Path, monkeypatch) -> None:
    monkeypatch.setattr(FeatureExtractor, "of_decoded", lambda self, clip: pytest.fail("a clip is computed again"))
    assert run(rows, made, model, root) == Prepared(7, 0, 0)


@pytest.mark.slow
def test_new_captions_reach_the_rows_and_new_clips_a_new_shard(
    rows: list[Row], model: PEAV, root: Path, tmp_path: Path
) -> None:
    run(rows[:4], tmp_path, model, root)
    before = {name: read_all(str(tmp_path / name)) for name in names_in(str(tmp_path)) if name.endswith(".tar")}
    changed = [replace(row, captions={"audio": ["new"]}) for row in reversed(rows)]
    assert run(changed, tmp_path, model, root) == Prepared(7, 3, 0)
    assert [(row.id, row.captions) for row in read_prepared(str(tmp_path))] == [
        (row.id, {"audio": ["new"]}) for row in changed
    ]
    assert {name: read_all(str(tmp_path / name)) for name in before} == before


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from peav.checkpoint import load_model
from peav.features import prepare as module
from peav.data.manifest import read_manifest
from peav.utils.storage import write_all

torch.set_num_threads(1)
root, folder, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def write(path, data):
    if path.endswith(name):
        os.kill(os.getpid(), signal.SIGKILL)
    write_all(path, data)

module.write_all = write
module.prepare(read_manifest(root / "manifest.jsonl"), folder, load_model("tiny").float(), name="tiny", root=root,
               shard_clips=3)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("point", "left"), [("shard-000001.tar", 4), ("shard-000001.jsonl", 4), ("clips.jsonl", 0)])
def test_a_killed_run_goes_on_from_its_last_whole_shard(
    point: str, left: int, made: Path, rows: list[Row], model: PEAV, root: Path, tmp_path: Path
) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(root), str(tmp_path), point], env=environment)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(PreparedError, match="not finished"):
        read_prepared(str(tmp_path))
    again = run(rows, tmp_path, model, root)
    assert (again.clips, again.failed) == (7, 0)
    assert again.computed <= left  # clips of the shard that was not full were kept, too, if three seconds had passed
    whole = {name: read_all(str(made / name)) for name in names_in(str(made))}
    assert {name: read_all(str(tmp_path / name)) for name in names_in(str(tmp_path))} == whole


@pytest.mark.slow
def test_object_storage_holds_what_a_folder_does(
    made: Path, rows: list[Row], model: PEAV, root: Path, tmp_path: Path
) -> None:
    url = f"memory://{tmp_path.name}/cache"
    assert run(rows, url, model, root) == Prepared(7, 7, 0)
    assert run(rows, url, model, root) == Prepared(7, 0, 0)
    assert names_in(url) == names_in(str(made))
    cache = FeatureCache(tmp_path, model)
    here, there = read_prepared(str(made)), read_prepared(url)
    assert all(same(a, b) for a, b in zip(cache.load_all(here), cache.load_all(there), strict=True))


def test_an_address_that_nothing_opens_says_what_to_install() -> None:
    with pytest.raises(StorageError, match=r"nowhere://x/prepared.json: .*pip install"):
        read_prepared("nowhere://x")


@pytest.mark.slow
def test_another_model_or_size_is_refused_by_name(made: Path, rows: list[Row], model: PEAV, root: Path) -> None:
    torch.manual_seed(0)
    other = PEAV(model.config)
    with pytest.raises(PreparedError, match=r"prepared by tiny with codec \w+, not \w+; frame encoder \w+.* in mine"):
        check_prepared(str(made), feature_spec(other, 10.0, "mine"))
    with pytest.raises(PreparedError, match=r"max seconds 10.0, not 5.0"):
        check_prepared(str(made), feature_spec(model, 5.0, "tiny"))
    with pytest.raises(PreparedError, match=r"begun by tiny with max seconds 10.0, not 5.0"):
        run(rows, made, model, root, max_seconds=5.0)
    check_prepared(str(made), feature_spec(model, 10.0, "another name for it"))


def test_a_folder_that_was_not_prepared_is_named(tmp_path: Path) -> None:
    with pytest.raises(PreparedError, match=r"no prepared.json here"):
        read_prepared(str(tmp_path))


@pytest.mark.slow
def test_a_damaged_shard_is_named_and_never_read_as_something_else(made: Path, model: PEAV, tmp_path: Path) -> None:
    row = read_prepared(str(made))[0]
    clip = row.audio_path or row.video_path
    assert isinstance(clip, PreparedClip)
    data = bytearray(Path(clip.path).read_bytes())
    data[clip.offset + clip.size // 2] ^= 1
    flipped = tmp_path / "shard-000000.tar"
    flipped.write_bytes(data)
    cache = FeatureCache(tmp_path, model)
    bad = replace(clip, path=str(flipped))
    with pytest.raises(PreparedError, match=r"shard-000000.tar/\w+: damaged"):
        cache.load(replace(row, audio_path=bad, video_path=bad))
    flipped.write_bytes(data[: clip.offset + 9])
    with pytest.raises(OSError, match="copy it again"):
        cache.load(replace(row, audio_path=bad, video_path=bad))


@pytest.mark.slow
def test_sound_alone_of_prepared_clips_has_no_pictures_and_silent_clips_are_left_out(
    made: Path, model: PEAV, tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path, model)
    for row in read_prepared(str(made)):
        audio, video = cache.streams(row)
        if video and row.audio_path is not None:
            alone = replace(row, video_path=None)
            good, _ = cache.prepare([alone])
            assert good == ([alone] if audio else [])
            assert cache.load(alone).frames is None


@pytest.mark.slow
def test_a_run_that_is_stopped_within_a_shard_keeps_what_it_has_computed(
    made: Path, rows: list[Row], model: PEAV, root: Path, tmp_path: Path
) -> None:
    def stop(done: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(Stopped, match="5 of 7 clips are kept; run the same command again"):
        run(rows, tmp_path, model, root, progress=stop)
    assert not (tmp_path / "lock").exists()
    assert run(rows, tmp_path, model, root) == Prepared(7, 2, 0)
    assert names_in(str(tmp_path)) == names_in(str(made))
    assert all(read_all(str(tmp_path / name)) == read_all(str(made / name)) for name in names_in(str(made)))


@pytest.mark.slow
def test_a_stopped_run_goes_on_where_the_manifest_has_another_order(
    made: Path, rows: list[Row], model: PEAV, root: Path, tmp_path: Path
) -> None:
    def stop(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(Stopped):
        run(rows, tmp_path, model, root, progress=stop)
    assert run(rows[::-1], tmp_path, model, root, shard_clips=1) == Prepared(7, 5, 0)
    cache = FeatureCache(tmp_path / "cache", model)
    ours, theirs = ({row.id: cache.load(row) for row in read_prepared(str(f))} for f in (tmp_path, made))
    assert ours.keys() == theirs.keys()
    assert all(same(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_a_clip_that_crashes_its_decoder_is_one_line_on_every_run(
    rows: list[Row], model: PEAV, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "crash.mp4"
    bad.write_bytes(b"anything")
    monkeypatch.setenv("PEAV_WORKER_HOOK", "hostile_decoder:decode")
    both = [Row(id="bad", audio_path=bad), *rows[:2]]
    assert run(both, tmp_path / "out", model, root) == Prepared(2, 2, 1)
    (line,) = map(json.loads, (tmp_path / "out" / "failures.jsonl").read_text().splitlines())
    assert (line["path"], line["error"], line["id"]) == (str(bad), "DecoderCrashError", "bad")
    assert run(both, tmp_path / "out", model, root) == Prepared(2, 0, 1)


@pytest.mark.slow
def test_bad_files_are_listed_passed_over_and_tried_again_when_they_change(
    rows: list[Row], model: PEAV, root: Path, tmp_path: Path
) -> None:
    bad = Row(id="bad", audio_path=root / "gone.wav")
    assert run([bad, *rows[:2]], tmp_path, model, root) == Prepared(2, 2, 1)
    (line,) = map(json.loads, (tmp_path / "failures.jsonl").read_text().splitlines())
    assert (line["id"], line["error"]) == ("bad", "MissingFileError")
    assert [row.id for row in read_prepared(str(tmp_path))] == [row.id for row in rows[:2]]
    assert run([bad, *rows[:2]], tmp_path, model, root) == Prepared(2, 0, 1)
    old = {"clip": line["clip"], "id": "bad", "reason": f"MissingFileError: {line['reason']}", "version": ""}
    (tmp_path / "failures.jsonl").write_text(json.dumps(old) + "\n")  # as an older peav wrote it
    assert run([bad, *rows[:2]], tmp_path, model, root) == Prepared(2, 0, 1)
    (root / "gone.wav").symlink_to(next(path for path in (root / "media").iterdir()))
    try:
        assert run([bad, *rows[:2]], tmp_path, model, root) == Prepared(3, 1, 0)
        assert not (tmp_path / "failures.jsonl").exists()
    finally:
        (root / "gone.wav").unlink()


@pytest.mark.slow
def test_too_many_bad_files_stop_the_run_and_a_mistake_in_a_program_stops_it_at_once(
    rows: list[Row], model: PEAV, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = [Row(id=f"gone {i}", audio_path=root / f"{i}.wav") for i in range(30)]
    with pytest.raises(TooManyFailures, match=r"21 of 37 clips cannot be read, the last being gone 20"):
        run([*gone, *rows], tmp_path, model, root, shard_clips=50)
    assert len((tmp_path / "failures.jsonl").read_text().splitlines()) == 21

    def mistake(self: FeatureExtractor, clip: Decoded) -> ClipFeatures:
        raise TypeError("wrong")

    monkeypatch.setattr(FeatureExtractor, "of_decoded", mistake)
    with pytest.raises(TypeError, match="wrong"):
        run(rows, tmp_path / "other", model, root)
