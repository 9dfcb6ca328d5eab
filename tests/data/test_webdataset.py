"""Clips in tars are the clips of a manifest: same rows, same features, read from their place."""

from __future__ import annotations

import io
import json
import os
import tarfile
import wave
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from peav.checkpoint import load_model
from peav.cli.main import app
from peav.data.manifest import Row, read_manifest
from peav.data.places import PlaceContext, read_place
from peav.data.webdataset import expand, read_webdataset
from peav.errors import ManifestError
from peav.features.prepare import prepare
from peav.features.prepared import read_prepared
from peav.features.store import FeatureCache
from peav.media import MissingFileError, UnreadableFileError, load_audio, load_frames, probe
from peav.synth.world import generate
from peav.utils.storage import FilePart, write_all


def write_tar(path: Path | str, members: Iterable[tuple[str, bytes]]) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    write_all(str(path), file.getvalue())


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    folder = tmp_path_factory.mktemp("clips")
    generate(folder, 6, seed=2, splits=("train",))
    return read_manifest(folder / "manifest.jsonl")


def members_of(rows: Iterable[Row]) -> list[tuple[str, bytes]]:
    members = []
    for row in rows:
        path = row.video_path or row.audio_path
        assert isinstance(path, Path)
        fields = {"id": row.id, "captions": row.captions, "transcript": row.transcript, "split": "train"}
        members += [(f"{row.id}{path.suffix}", path.read_bytes()), (f"{row.id}.json", json.dumps(fields).encode())]
    return members


@pytest.mark.slow
def test_clips_in_tars_have_the_rows_and_the_features_of_a_manifest(rows: list[Row], tmp_path: Path) -> None:
    write_tar(tmp_path / "clips-0.tar", members_of(rows[:3]))
    write_tar(tmp_path / "clips-1.tar", members_of(rows[3:]))
    pattern = str(tmp_path / "clips-{0..1}.tar")
    tarred = read_webdataset(pattern)
    assert [row.id for row in tarred] == [row.id for row in rows]
    assert [(row.captions, row.transcript) for row in tarred] == [(row.captions, row.transcript) for row in rows]
    model = load_model("tiny").float()
    cache = FeatureCache(tmp_path / "cache", model)
    assert cache.prepare(tarred) == (tarred, [])
    cache.prepare(rows)
    for ours, theirs in zip(tarred, rows, strict=True):
        assert cache.path(ours) != cache.path(theirs)
        one, other = cache.load(ours).arrays(), cache.load(theirs).arrays()
        assert list(one) == list(other)
        assert all(np.array_equal(one[name], other[name]) for name in one)
    prepare(tarred, str(tmp_path / "shards"), model, name="tiny", root=tmp_path)
    assert [row.captions for row in read_prepared(str(tmp_path / "shards"))] == [row.captions for row in rows]


def test_a_text_is_a_caption_of_every_kind_that_the_streams_allow(tmp_path: Path) -> None:
    sound, video = b"sound", b"video"
    write_tar(
        tmp_path / "t.tar",
        [
            ("README.txt", b"no clip"),
            ("a/one.wav", sound),
            ("a/one.txt", b"rain\n"),
            ("a/two.mp4", video),
            ("a/two.txt", b"a dog"),
            ("a/two.json", b'{"source": "x", "mood": "calm"}'),
            ("three.v1.mp4", video),
            ("four.json", b'{"text": ["one", "two"]}'),
            ("four.flac", sound),
            ("four.mp4", video),
        ],
    )
    one, two, three, four = read_webdataset(str(tmp_path / "t.tar"))
    assert three.id == "t/three.v1"
    assert (one.id, one.captions, one.video_path) == ("t/a/one", {"audio": ["rain"]}, None)
    assert two.captions == {kind: ["a dog"] for kind in ("audio", "video", "audio_video")}
    assert two.with_streams(audio=False, video=True).captions == {"video": ["a dog"]}
    assert (two.source, two.extra["mood"], two.audio_path) == ("x", "calm", two.video_path)
    assert four.captions["video"] == ["one", "two"]
    assert isinstance(four.audio_path, FilePart)
    assert isinstance(four.video_path, FilePart)
    assert (four.audio_path.name, four.video_path.name) == ("four.flac", "four.mp4")


def test_a_part_of_a_file_decodes_as_the_file(rows: list[Row], tmp_path: Path) -> None:
    row = next(row for row in rows if row.audio_path == row.video_path)
    assert isinstance(row.video_path, Path)
    data = row.video_path.read_bytes()
    (tmp_path / "long").write_bytes(b"before" + data + b"after")
    part = FilePart(str(tmp_path / "long"), 6, len(data), "clip.mp4")
    assert probe(part) == probe(row.video_path)
    assert np.array_equal(load_audio(part), load_audio(row.video_path))
    assert np.array_equal(load_frames(part).pixels, load_frames(row.video_path).pixels)
    with pytest.raises(UnreadableFileError, match=r"long/clip.mp4: cannot be read .*copy it again"):
        probe(replace(part, offset=100))
    with pytest.raises(MissingFileError, match="gone: no such file"):
        probe(replace(part, path=str(tmp_path / "gone")))


def test_braces_name_several_tars() -> None:
    assert expand("s/c-{08..11}.tar") == ["s/c-08.tar", "s/c-09.tar", "s/c-10.tar", "s/c-11.tar"]
    assert expand("{a,b}-{0..1}.tar") == ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]
    assert expand("one.tar") == ["one.tar"]
    with pytest.raises(ManifestError, match="smaller number first"):
        expand("c-{3..1}.tar")


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_signs_of_a_shell_name_several_tars(place: str, tmp_path: Path) -> None:
    folder = str(tmp_path) if place == "disk" else f"memory://{tmp_path.name}/shards"
    for name in ("c-01", "c-00", "d-00"):
        write_tar(f"{folder}/{name}.tar", [(f"{name}.wav", b"x"), (f"{name}.txt", b"rain")])

    def ids(pattern: str) -> list[str]:
        return [row.id for row in read_webdataset(f"{folder}/{pattern}")]

    assert ids("c-*.tar") == ids("c-0[01].tar") == ids("c-0?.tar") == ["c-00/c-00", "c-01/c-01"]
    assert ids("{d,c}-*0.tar") == ["d-00/d-00", "c-00/c-00"]
    with pytest.raises(ManifestError, match=r"e-\*\.tar: no such tar; check the path and the pattern"):
        ids("e-*.tar")


@pytest.mark.slow
def test_training_takes_tars_in_place_of_the_recipes_sources(rows: list[Row], tmp_path: Path) -> None:
    write_tar(tmp_path / "clips-0.tar", members_of(rows[:3]))
    write_tar(tmp_path / "clips-1.tar", members_of(rows[3:]))
    changes = {"output": tmp_path / "run", "data.cache": tmp_path / "cache", "optim.steps": 1, "optim.batch_size": 4}
    options = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    command = ["train", "finetune", "--data", str(tmp_path / "clips-*.tar"), "--set", "tune.parts=[heads]"]
    result = CliRunner().invoke(app, [*command, *options, "--json"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


def test_what_is_no_place_of_clips_says_what_is_taken(tmp_path: Path) -> None:
    for name in ("clips.tar.gz", "clips.json", "nowhere"):
        with pytest.raises(ManifestError, match=rf"{name}: no clips there; give a manifest .*, tars .* or a folder"):
            read_place(str(tmp_path / name), PlaceContext(str(tmp_path)))


def test_a_tar_is_read_through_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar, index = tmp_path / "t.tar", str(tmp_path / "index")
    write_tar(tar, [("a.wav", b"x" * 700), ("a.txt", "Regen\u2028hier".encode())])
    first = read_webdataset(str(tar), index)
    assert first[0].captions == {"audio": ["Regen\u2028hier"]}
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", lambda *args, **settings: pytest.fail("read again"))
        assert read_webdataset(str(tar), index) == first
    write_tar(tar, [("a.wav", b"x" * 7), ("a.txt", b"snow")])
    assert read_webdataset(str(tar), index)[0].captions == {"audio": ["snow"]}


def test_tars_in_object_storage_are_read_in_parts(rows: list[Row], tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/clips.tar"
    write_tar(url, members_of(rows[:1]))
    (row,) = read_webdataset(url, str(tmp_path / "index"))
    assert read_webdataset(url, str(tmp_path / "index")) == [row]
    source, local = row.audio_path or row.video_path, rows[0].audio_path or rows[0].video_path
    assert source is not None
    assert local is not None
    assert probe(source) == probe(local)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.wav", b"x"), ("a.json", b"{")], r"t.tar/a.json: not JSON"),
        ([("a.wav", b"x"), ("a.json", b"[]")], r"t.tar/a.json: must be a JSON object"),
        ([("a.wav", b"x"), ("a.json", b"[" * 200_000)], r"t.tar/a.json: JSON that is nested too deeply"),
        ([("a.wav", b"x"), ("a.txt", b"\xff")], r"t.tar/a.txt:1: not UTF-8"),
        ([("a.wav", b"x"), ("a.txt", "rain".encode("utf-16"))], r"t.tar/a.txt: UTF-16; save it as UTF-8"),
        ([("a.wav", b"x"), ("a.json", b'{"start": "1"}')], r"t.tar/a: start must be a number"),
        ([("a.wav", b"x"), ("b.txt", b"x"), ("a.wav", b"x")], r"t.tar: 'a.wav' stands twice"),
        ([("a.wav", b"x"), ("a.txt", b"x"), ("a.txt", b"y")], r"t.tar: 'a.txt' stands twice"),
        ([("b/a.left.wav", b"x"), ("b/a.txt", b"x")], r"t.tar: 'b/a.txt' names no clip, and 'b/a.left' has another"),
        (
            [("a.wav", b"x"), ("b.wav", b"x"), ("a.json", b'{"id": "b"}'), ("b.json", b'{"id": "b"}')],
            r"t.tar/b: id 'b' stands twice, first at .*t.tar/a",
        ),
    ],
)
def test_a_bad_clip_is_named(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    write_tar(tmp_path / "t.tar", members)
    with pytest.raises(ManifestError, match=message):
        read_webdataset(str(tmp_path / "t.tar"))


def test_names_with_dots_are_whole_and_members_of_a_clip_need_not_follow_each_other(shared: Path) -> None:
    tar = shared / "cases" / "dots.tar"
    rows = read_webdataset(str(tar))
    names = {"235342 Track 2.0 (Clean Version)", "plainname", "v1.5_take"}
    assert {row.id.removeprefix("dots/") for row in rows} == names
    assert all(row.captions["audio"] for row in rows)
    assert all(probe(row.audio_path).has_audio for row in rows)


def test_captions_may_have_a_byte_order_mark_and_any_line_ends(tmp_path: Path) -> None:
    members = [
        ("a.wav", b"x"),
        ("a.txt", b"\xef\xbb\xbfrain\r\n"),
        ("b.wav", b"x"),
        ("b.json", b'\xef\xbb\xbf{"text": "snow"}'),
    ]
    write_tar(tmp_path / "t.tar", members)
    assert [row.captions["audio"] for row in read_webdataset(str(tmp_path / "t.tar"))] == [["rain"], ["snow"]]


@pytest.mark.slow
def test_a_tar_in_the_place_of_another_has_features_of_its_own(tmp_path: Path) -> None:
    """Names, offsets and sizes of the members agree: only what lies there differs."""
    tar, index = tmp_path / "t.tar", str(tmp_path / "index")
    model = load_model("tiny").float()
    cache = FeatureCache(tmp_path / "cache", model)
    latents = []
    for seed in range(2):
        noise = io.BytesIO()
        with wave.open(noise, "wb") as file:
            file.setparams((1, 2, 48_000, 0, "NONE", ""))
            file.writeframes(np.random.default_rng(seed).integers(-9000, 9000, 24_000, dtype=np.int16).tobytes())
        write_tar(tar, [("a.wav", noise.getvalue()), ("a.txt", b"noise")])
        os.utime(tar, ns=(seed, 10**18 - seed))  # the newer tar was written before the older one
        rows = read_webdataset(str(tar), index)
        cache.prepare(rows)
        latents.append(cache.load(rows[0]).latents)
        prepare(rows, str(tmp_path / "shards"), model, name="tiny", root=tmp_path)
        (prepared,) = read_prepared(str(tmp_path / "shards"))
        assert np.array_equal(cache.load(prepared).latents, latents[-1])
    assert not np.array_equal(*latents)


def test_a_damaged_index_is_made_again(tmp_path: Path) -> None:
    tar, index = tmp_path / "t.tar", tmp_path / "index"
    write_tar(tar, [("a.wav", b"x"), ("a.txt", b"rain")])
    first = read_webdataset(str(tar), str(index))
    (kept,) = index.iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    assert read_webdataset(str(tar), str(index)) == first


def test_a_missing_a_compressed_and_a_torn_tar_are_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"gone.tar: no such tar"):
        read_webdataset(str(tmp_path / "gone.tar"))
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.wav"))
    with pytest.raises(ManifestError, match=r"packed.tar: cannot be read .*not compressed"):
        read_webdataset(str(tmp_path / "packed.tar"))
    write_tar(tmp_path / "torn.tar", [("a.wav", b"x" * 2000), ("b.wav", b"x" * 2000)])
    data = (tmp_path / "torn.tar").read_bytes()
    for size in (3500, 2560, 2560 + 512):  # within a clip, between two of them, and after a header
        (tmp_path / "torn.tar").write_bytes(data[:size])
        with pytest.raises(ManifestError, match=r"torn.tar: cannot be read"):
            read_webdataset(str(tmp_path / "torn.tar"))
