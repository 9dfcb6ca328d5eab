"""What a manifest promises: rows as written, and errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peav.data.manifest import Event, ManifestError, Row, read_manifest, write_manifest
from peav.data.recordings import read_recordings

RECORD = {
    "id": "a",
    "path": "media/a.mp4",
    "start": 1.5,
    "end": 4.0,
    "captions": {"audio": ["a bell rings"], "audio_video": "a red bell rings"},
    "transcript": "hello",
    "events": [{"onset": 0.5, "offset": 1.0, "label": "bell", "visible": True}],
    "split": "train",
    "license": "CC0-1.0",
    "mood": {"calm": 3},
}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rows_come_back_as_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    write_manifest(path, [RECORD])
    (row,) = read_manifest(path)
    assert row.id == "a"
    assert row.audio_path == row.video_path == tmp_path / "media/a.mp4"
    assert (row.start, row.end) == (1.5, 4.0)
    assert row.captions["audio"] == ["a bell rings"]
    assert row.captions["audio_video"] == ["a red bell rings"] or suffix == ".parquet"
    assert row.events == (Event(0.5, 1.0, "bell"),)
    assert row.transcript == "hello"
    assert row.extra["mood"] == {"calm": 3}


def test_separate_streams_keep_their_own_paths(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.jsonl", [{"id": "a", "audio_path": "a.wav"}, {"id": "b", "video_path": "b.mp4"}])
    audio, video = read_manifest(tmp_path / "m.jsonl")
    assert (audio.audio_path, audio.video_path) == (tmp_path / "a.wav", None)
    assert (video.audio_path, video.video_path) == (None, tmp_path / "b.mp4")


def test_a_split_is_read_alone_and_in_order(tmp_path: Path) -> None:
    records = [{"id": str(i), "path": "x", "split": ["train", "test"][i % 2]} for i in range(7)]
    write_manifest(tmp_path / "m.jsonl", records)
    assert [row.id for row in read_manifest(tmp_path / "m.jsonl", "test")] == ["1", "3", "5"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_plain_pairs_need_no_id_and_their_text_stands_under_every_kind_that_the_paths_allow(
    tmp_path: Path, suffix: str
) -> None:
    write_manifest(
        tmp_path / f"m{suffix}",
        [
            {"path": None, "audio_path": "a.wav", "video_path": None, "text": "rain", "caption": None},
            {"path": None, "audio_path": None, "video_path": "b.mp4", "text": None, "caption": "rain"},
            {"path": "c.mp4", "audio_path": None, "video_path": None, "text": "rain", "caption": "ignored beside text"},
        ],
    )
    rows = read_manifest(tmp_path / f"m{suffix}")
    assert [row.id for row in rows] == ["a.wav", "b.mp4", "c.mp4"]
    kinds = [("audio",), ("video",), ("audio", "video", "audio_video")]
    assert [row.captions for row in rows] == [{kind: ["rain"] for kind in row} for row in kinds]
    assert rows[2].with_streams(audio=False, video=True).captions == {"video": ["rain"]}


def test_captions_by_kind_are_kept_whatever_else_a_row_says(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.jsonl", [{"path": "c.mp4", "text": "x", "captions": {"video": ["a bell"]}}])
    (row,) = read_manifest(tmp_path / "m.jsonl")
    assert row.captions == row.with_streams(True, True).captions == {"video": ["a bell"]}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], r"m.jsonl:1: not JSON"),
        (["[1]"], r"m.jsonl:1: a row must be a JSON object"),
        (['{"id": 3, "path": "x"}'], r"m.jsonl:1: an `id` is a string of the row's own, not 3"),
        (['{"path": "x"}', '{"path": "x"}'], r"m.jsonl:2: id 'x' stands twice"),
        (['{"path": "x", "text": 3}'], r"m.jsonl:1: text must be a string or a list of strings, not 3"),
        (['{"id": "a"}'], r"m.jsonl:1: a row needs `path`"),
        (['{"id": "a", "path": "x"}', '{"id": "a", "path": "y"}'], r"m.jsonl:2: id 'a' stands twice"),
        ([json.dumps({"id": "a", "path": "x", "captions": {"sound": ["x"]}})], r"m.jsonl:1: captions go by kind"),
        ([json.dumps({"id": "a", "path": "x", "captions": "x"})], r"m.jsonl:1: captions go by kind"),
        ([json.dumps({"id": "a", "path": "x", "synthetic": True})], r"m.jsonl:1: synthetic captions go by kind"),
        ([json.dumps({"id": "a", "path": "x", "captions": {"audio": [3]}})], r"m.jsonl:1: captions must be strings"),
        ([json.dumps({"id": "a", "path": "x", "start": "1.5"})], r"m.jsonl:1: start must be a number of seconds"),
        ([json.dumps({"id": "a", "path": "x", "transcript": 3})], r"m.jsonl:1: transcript must be a string"),
        ([json.dumps({"id": "a", "path": "x", "events": [{"onset": 1}]})], r"m.jsonl:1: an event needs"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    with pytest.raises(ManifestError, match=message):
        read_manifest(tmp_path / "m.jsonl")


@pytest.mark.parametrize("line", ["{", "[1]", '{"kind": "audio"}', '{"path": "a.wav"}'])
def test_a_bad_line_of_a_folder_of_recordings_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "manifest.jsonl").write_text(f'{{"path": "b.wav", "kind": "audio"}}\n{line}\n')
    with pytest.raises(ManifestError, match=r"manifest\.jsonl:2: "):
        read_recordings(tmp_path)


def test_parquet_keeps_columns_that_the_first_row_lacks(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.parquet", [{"path": "a.wav"}, {"path": "b.wav", "transcript": "hello", "mine": 3}])
    one, two = read_manifest(tmp_path / "m.parquet")
    assert (one.transcript, two.transcript, two.extra["mine"]) == (None, "hello", 3)


def test_synthetic_captions_come_after_the_others_and_are_known_as_such(tmp_path: Path) -> None:
    made = {"audio": ["made"], "video": ["seen"]}
    write_manifest(
        tmp_path / "m.jsonl",
        [
            {"path": "a.mp4", "captions": {"audio": "real"}, "synthetic": made},
            {"path": "b.mp4", "text": "plain", "synthetic": made},
            {"path": "c.mp4", "synthetic": made},
        ],
    )
    one, two, three = read_manifest(tmp_path / "m.jsonl")
    assert one.captions == {"audio": ["real", "made"], "video": ["seen"]}
    assert two.captions == {"audio": ["plain", "made"], "video": ["plain", "seen"], "audio_video": ["plain"]}
    assert two.with_streams(True, False).captions == {"audio": ["plain", "made"], "video": ["seen"]}
    assert three.captions == {kind: list(texts) for kind, texts in made.items()}
    assert one.synthetic == two.synthetic == three.synthetic == made


def test_a_clip_is_tested_on_by_peoples_captions_where_it_has_any(tmp_path: Path) -> None:
    made = {"audio": ["made"], "video": ["seen"]}
    record = {"path": "a.mp4", "text": "real", "synthetic": made}
    write_manifest(tmp_path / "m.jsonl", [record])
    (row,) = read_manifest(tmp_path / "m.jsonl")
    tested = row.by_people()
    assert tested.captions == {kind: ["real"] for kind in ("audio", "video", "audio_video")}
    assert tested.with_streams(True, True).captions == tested.captions
    alone = Row("x", captions={"audio": ["made"]}, synthetic={"audio": ["made"]})
    assert alone.by_people() == alone


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such manifest"):
        read_manifest(tmp_path / "none.jsonl")
