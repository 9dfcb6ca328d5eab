"""Manifests in object storage, and files there that a manifest names, are what they are on disk."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from noise_tar import sound
from s3_server import S3Server

from peav.checkpoint import load_model
from peav.data.manifest import read_manifest
from peav.data.places import read_clips
from peav.engine.partition import read_rows
from peav.errors import ManifestError, MissingFileError
from peav.features.decode import Cut, Decoded, decode, decode_each, decode_task
from peav.features.keys import media_mark
from peav.features.prepare import Prepared, prepare
from peav.media import load_audio, probe
from peav.utils.storage import write_all

AT = "s3://clips/manifest"
CUT = Cut(num_frames=1, image_size=8, max_seconds=None)
RECORDS = [{"path": f"home/{i}.wav", "captions": {"audio": [f"noise {i}"]}, "split": "train"} for i in range(3)]


@pytest.fixture
def files(s3: S3Server, tmp_path: Path) -> Path:
    """The same on disk and in object storage."""
    (tmp_path / "home").mkdir()
    for number, record in enumerate(RECORDS):
        (tmp_path / str(record["path"])).write_bytes(sound(number))
        write_all(f"{AT}/{record['path']}", sound(number))
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(RECORDS), table)
    texts = {
        "m.jsonl": "".join(json.dumps(record) + "\n" for record in RECORDS).encode(),
        "m.csv": b"path,text,split\n" + b"".join(b"home/%d.wav,noise %d,train\n" % (i, i) for i in range(3)),
        "m.parquet": table.getvalue(),
    }
    for name, data in texts.items():
        (tmp_path / name).write_bytes(data)
        write_all(f"{AT}/{name}", data)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["m.jsonl", "m.csv", "m.parquet"])
def test_a_manifest_there_has_the_rows_and_the_clips_of_one_on_disk(files: Path, name: str) -> None:
    here, there = read_clips(str(files / name)), read_clips(f"{AT}/{name}")
    assert list(read_rows(f"{AT}/{name}")) == there == read_manifest(f"{AT}/{name}")
    assert [(row.id, row.captions, row.split) for row in there] == [(row.id, row.captions, row.split) for row in here]
    for ours, theirs in zip(there, here, strict=True):
        assert str(ours.audio_path) == f"{AT}/{ours.id}"
        both = [decode(row.audio_path, row.video_path, None, None, CUT).waveform for row in (ours, theirs)]
        assert np.array_equal(*both)


@pytest.mark.slow
def test_a_manifest_on_disk_may_name_files_there_each_fetched_once(s3: S3Server, files: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"id": "a", "path": f"{AT}/home/0.wav"}), json.dumps({"id": "b", "audio_path": "home/0.wav"})]
    (files / "mixed.jsonl").write_text("\n".join(lines))
    there, here = read_manifest(files / "mixed.jsonl")
    s3.reset()
    tasks = [decode_task(row.audio_path, row.video_path, None, None, CUT) for row in (there, here)]
    one, two = decode_each(tasks, 1.0, 1)
    assert isinstance(one, Decoded)
    assert isinstance(two, Decoded)
    assert np.array_equal(one.waveform, two.waveform)
    assert [request.verb for request in s3.requests if request.path.endswith(".wav")].count("GET") == 1
    assert probe(there.audio_path) == probe(here.audio_path)
    assert np.array_equal(load_audio(there.audio_path), load_audio(here.audio_path))


@pytest.mark.slow
def test_one_that_is_replaced_is_computed_again_and_one_that_is_missing_is_a_bad_clip(
    files: Path, tmp_path: Path
) -> None:
    model, out = load_model("tiny").float(), str(tmp_path / "out")
    rows = read_clips(f"{AT}/m.jsonl")
    assert prepare(rows, out, model, name="tiny", root=Path()) == Prepared(3, 3, 0)
    mark = media_mark(rows[1])
    write_all(f"{AT}/home/1.wav", sound(9))
    assert media_mark(rows[1]) != mark
    assert prepare(rows, out, model, name="tiny", root=Path()) == Prepared(3, 1, 0)
    gone = read_clips(f"{AT}/m.jsonl")[0]
    write_all(f"{AT}/more.jsonl", json.dumps({"path": "home/gone.wav"}) + "\n" + json.dumps(RECORDS[0]))
    assert prepare(read_clips(f"{AT}/more.jsonl"), out, model, name="tiny", root=Path()) == Prepared(1, 0, 1)
    with pytest.raises(MissingFileError, match=rf"^{AT}/home/gone.wav: no such file"):
        load_audio(read_clips(f"{AT}/more.jsonl")[0].audio_path)
    assert gone.id == "home/0.wav"


@pytest.mark.parametrize("name", ["gone.jsonl", "gone.csv", "gone.parquet"])
def test_a_manifest_that_is_not_there_is_one_line(s3: S3Server, name: str) -> None:
    with pytest.raises(ManifestError, match=rf"^{AT}/{name}: no such manifest; check the address$"):
        read_clips(f"{AT}/{name}")
