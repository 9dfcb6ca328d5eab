"""What a manifest promises: rows as written, and errors that name the line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peav.data.manifest import Row, by_fold, parse_row, read_manifest, write_manifest
from peav.data.recordings import read_recordings
from peav.errors import ManifestError
from peav.types import Event

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
    assert row.events == (Event("bell", 0.5, 1.0),)
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


FIELDS = {
    "id": ["", 0, 5, True, [], {}, ["a"], "\ud800"],
    "path": [5, True, [], ["a.wav"], {"a": 1}, "a\0.wav", "\udfff"],
    "audio_path": [5, True, ["a.wav"], {}],
    "video_path": [5, True, ["a.wav"], {}],
    "start": ["1", True, [], {}, -1, float("nan"), float("inf"), 10**400, 7],
    "end": ["1", False, [], {}, -1, float("nan"), float("-inf"), 10**400, 0, 0.5],
    "transcript": [5, True, [], ["hello"], {}, "\ud800"],
    "split": [5, True, [], {"train": 1}],
    "source": [5, True, []],
    "license": [5, True, ["CC0"]],
    "licence": [5, True, ["CC0"]],
    "fold": ["3", True, 1.5, float("nan"), [], {}],
    "text": [5, True, {}, [5], [None], ["a", ["b"]], "\ud800"],
    "caption": [5, True, {"audio": "a"}, [5]],
    "captions": [5, True, "a", ["a"], {"audio": 5}, {"audio": {}}, {"audio": [None]}, {"sound": ["a"]}],
    "synthetic": [5, True, "a", ["a"], {"audio": 5}, {"video": [["a"]]}],
    "events": [
        5, True, "dog", {}, [5], ["dog"], [None], [[]], [{}],
        *([{"onset": 0, "offset": 1, "label": "dog"} | wrong] for wrong in (
            {"label": 5}, {"label": None}, {"label": ""}, {"label": []}, {"onset": "0"}, {"onset": True}, {"onset": -1},
            {"onset": 2}, {"onset": float("nan")}, {"offset": float("nan")}, {"offset": float("inf")}, {"offset": []},
            {"offset": 10**400}, {"texts": 5}, {"texts": {}}, {"texts": [5]},
        )),
    ],
    "words": [
        5, True, "dog", {}, [5], [{}],
        *([{"start": 0, "end": 1, "word": "dog"} | wrong] for wrong in (
            {"word": 5}, {"word": None}, {"start": "0"}, {"start": -1}, {"start": 2}, {"end": float("nan")},
        )),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in FIELDS.items() for value in values])
def test_a_wrong_value_of_any_field_is_a_manifest_error_with_its_line(
    tmp_path: Path, field: str, value: object
) -> None:
    path, good = tmp_path / "manifest.jsonl", {"path": "a.wav", "kind": "sound", "start": 1.0, "end": 5.0}
    path.write_text(json.dumps(good) + "\n\n" + json.dumps(good | {"path": "b.wav", field: value}) + "\n")
    with pytest.raises(ManifestError, match=r"manifest\.jsonl:3: "):
        read_manifest(path)
    if field not in ("audio_path", "video_path", "text", "id"):  # of which a recording has none, or makes its own
        with pytest.raises(ManifestError, match=r"manifest\.jsonl:3: "):
            read_recordings(tmp_path)


@pytest.mark.parametrize("field", FIELDS)
def test_null_is_a_field_that_is_not_there(tmp_path: Path, field: str) -> None:
    (tmp_path / "m.jsonl").write_text(json.dumps({"path": "a.wav", "audio_path": "a.wav", field: None}))
    (row,) = read_manifest(tmp_path / "m.jsonl")
    assert row.id == "a.wav"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FIELDS, "onset", "word"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.slow
@given(record=st.dictionaries(st.sampled_from([*FIELDS, "kind", "label", "mood"]), JSON))
def test_any_record_is_a_row_or_a_manifest_error(record: dict) -> None:
    with suppress(ManifestError):
        row = parse_row(record, Path("/data"), "m.jsonl:1")
        assert all(isinstance(text, str) for texts in row.captions.values() for text in texts)
        assert all(0 <= event.onset <= event.offset < float("inf") for event in row.events)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"path": "a.wav"}\n' + b"[" * 200_000, "m.jsonl:2: JSON that is nested too deeply"),
        (b'{"path": "a.wav", "mood": ' + b"[" * 300 + b"]" * 300 + b"}", "m.jsonl:1: lists and objects in each other"),
        (b'{"path": "a.wav", "start": ' + b"9" * 5000 + b"}", "m.jsonl:1: not JSON"),
        ('{"path": "a.wav"}\n'.encode("utf-16"), "m.jsonl: UTF-16; save it as UTF-8"),
        (b'{"path": "a.wav"}\n{"path": "caf\xe9.wav"}\n', "m.jsonl:2: not UTF-8"),
    ],
)
def test_what_is_not_text_or_not_json_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "m.jsonl").write_bytes(data)
    with pytest.raises(ManifestError, match=message):
        read_manifest(tmp_path / "m.jsonl")


def test_marks_line_ends_and_line_separators_change_nothing(tmp_path: Path) -> None:
    plain = '{"path": "a.wav", "text": "rain\u2028falls\x85"}\n{"path": "b.wav"}\n'
    (tmp_path / "plain.jsonl").write_text(plain, encoding="utf-8")
    (tmp_path / "windows.jsonl").write_bytes(b"\xef\xbb\xbf" + plain.replace("\n", "\r\n").encode())
    rows = read_manifest(tmp_path / "plain.jsonl")
    assert rows[0].captions == {kind: ["rain\u2028falls\x85"] for kind in ("audio", "video", "audio_video")}
    assert read_manifest(tmp_path / "windows.jsonl") == rows


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table_has_the_rows_of_the_same_json_lines(tmp_path: Path, suffix: str) -> None:
    records: list[dict] = [
        RECORD | {"label": 'a "red", bell', "fold": 3, "mood": "calm"},
        {"path": "home/1.wav", "caption": "rain,\nthen\tsnow", "start": 0.5},
        {
            "id": "b",
            "audio_path": "b.wav",
            "words": [{"word": "Hi", "start": 0, "end": 1}],
            "synthetic": {"audio": ["x"]},
        },
    ]
    write_manifest(tmp_path / "m.jsonl", records)
    with open(tmp_path / f"m{suffix}", "w", encoding="utf-8-sig", newline="") as file:
        table = csv.DictWriter(
            file, list(dict.fromkeys(key for r in records for key in r)), delimiter=",\t"[suffix == ".tsv"]
        )
        table.writeheader()
        for record in records:
            table.writerow({k: json.dumps(v) if isinstance(v, (dict, list)) else v for k, v in record.items()})
    assert read_manifest(tmp_path / f"m{suffix}") == read_manifest(tmp_path / "m.jsonl")


def test_spaces_after_commas_are_no_part_of_names_and_cells(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text('path, caption, split\na.wav, "rain, then snow", test\n')
    (row,) = read_manifest(tmp_path / "m.csv", "test")
    assert row.captions["audio"] == ["rain, then snow"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('id,path\na,"a.wav\nb,b.wav\n', r"m.csv:2: .*a quote may be open"),
        ("path,caption\na.wav,rain, then snow\n", r"m.csv:2: 3 cells under 2 names"),
        ("path,path\na.wav,b.wav\n", r"m.csv:1: the column 'path' stands twice"),
        ("path;caption\na.wav;rain\n", r"m.csv:1: semicolons stand between columns"),
        ("path,start\na.wav,soon\n", r"m.csv:2: start must be a number, not 'soon'"),
        ("path,start\na.wav,nan\n", r"m.csv:2: start must be a number of seconds"),
        ("path,captions\na.wav,rain\n", r"m.csv:2: captions: not JSON"),
        ("id,path\na,a.wav\n\na,b.wav\n", r"m.csv:4: id 'a' stands twice, first at .*m.csv:2"),
        ("id,caption\na,rain\n", r"m.csv:2: a row needs `path`"),
    ],
)
def test_a_bad_line_of_a_table_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ManifestError, match=message):
        read_manifest(tmp_path / "m.csv")


def test_a_file_that_is_not_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.parquet").write_bytes(b"PAR1 and nothing else PAR1")
    with pytest.raises(ManifestError, match=r"m.parquet: not a Parquet file"):
        read_manifest(tmp_path / "m.parquet")


def test_british_manifests_keep_their_license(tmp_path: Path) -> None:
    write_manifest(tmp_path / "manifest.jsonl", [{"path": "a.wav", "kind": "sound", "licence": "CC0"}])
    assert read_manifest(tmp_path / "manifest.jsonl")[0].license == read_recordings(tmp_path)[0].license == "CC0"


@pytest.mark.parametrize("line", ["{", "[1]", '{"kind": "audio"}', '{"path": "a.wav"}'])
def test_a_bad_line_of_a_folder_of_recordings_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "manifest.jsonl").write_text(f'{{"path": "b.wav", "kind": "audio"}}\n{line}\n')
    with pytest.raises(ManifestError, match=r"manifest\.jsonl:2: "):
        read_recordings(tmp_path)


def recordings(folder: Path, rows: Iterable[dict]) -> Path:
    folder.mkdir(parents=True)
    write_manifest(folder / "manifest.jsonl", ({"kind": "sound"} | row for row in rows))
    return folder


def test_recordings_of_one_name_in_two_folders_are_two_and_one_file_twice_is_refused(tmp_path: Path) -> None:
    folder = recordings(tmp_path / "set", [{"path": "home/1.wav"}, {"path": "street/1.wav"}])
    assert [row.id for row in read_recordings(folder)] == ["set/home/1.wav", "set/street/1.wav"]
    folder = recordings(tmp_path / "twice", [{"path": "home/1.wav"}, {"path": "home/1.wav"}])
    with pytest.raises(ManifestError, match=r"manifest.jsonl:2: id 'twice/home/1.wav' stands twice, first at .*:1"):
        read_recordings(folder)


def test_what_is_held_out_is_said_by_the_data_and_not_by_the_name_of_the_folder(tmp_path: Path) -> None:
    rows = [{"path": f"{n}.wav", "fold": 1 + n % 3, "source": "github karolpiczak/ESC-10@9c866b9"} for n in range(12)]
    third = [f"{n}.wav" for n in range(12) if n % 3 == 2]
    for name in ("esc10", "ESC-10", "sounds"):
        folder = recordings(tmp_path / name, rows)
        assert [row.audio_path.name for row in read_recordings(folder, "test")] == third
        assert len(read_recordings(folder, "train")) == 8
        assert [row.audio_path.name for row in by_fold(read_recordings(folder), 2, "x") if row.split == "test"] == [
            f"{n}.wav" for n in range(12) if n % 3 == 1
        ]
    own = recordings(
        tmp_path / "own", [row | {"split": "test" if n < 2 else "validation"} for n, row in enumerate(rows)]
    )
    assert [row.audio_path.name for row in read_recordings(own, "test")] == ["0.wav", "1.wav"]
    with pytest.raises(ManifestError, match="fold 9 cannot be held out: there are folds 1, 2, 3"):
        by_fold(read_recordings(folder), 9, "x")
    with pytest.raises(ManifestError, match="fold 1 cannot be held out: some rows have no `fold`"):
        by_fold(
            read_recordings(recordings(tmp_path / "none", [{"path": "a.wav"}, {"path": "b.wav", "fold": 1}])), 1, "x"
        )
    with pytest.raises(ManifestError, match=r"manifest.jsonl:1: a clip of karolpiczak/ESC-10 without its `fold`"):
        read_recordings(recordings(tmp_path / "less", [{k: v for k, v in rows[0].items() if k != "fold"}]))


def test_the_clips_that_tiny_was_trained_on_are_those_of_its_recipe_whatever_the_folder_is_called(
    shared: Path, tmp_path: Path
) -> None:
    for name, tested in (("esc10", 80), ("esc50_cc", None)):
        (tmp_path / "link").symlink_to(shared / "data" / name)
        here, linked = (read_recordings(folder) for folder in (shared / "data" / name, tmp_path / "link"))
        assert [row.split for row in here] == [row.split for row in linked]
        assert tested in (None, sum(row.split == "test" for row in here))
        (tmp_path / "link").unlink()


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
