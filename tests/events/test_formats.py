"""Files of events and scores: what is written is read back, by us and by sed_scores_eval."""

from __future__ import annotations

import csv
import html
import json
import math
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peav.data.manifest import ManifestError, read_manifest, write_manifest
from peav.events import Event, FrameScores
from peav.events.formats import (
    EventsError,
    read_events,
    read_score_folder,
    read_scores,
    to_audacity,
    to_record,
    to_tsv,
    to_vtt,
    write_scores,
)
from peav.events.thresholds import read_thresholds, write_thresholds

DOG, RAIN = Event("dog", 0.5, 1.25, 0.75), Event('a "tin" roof\tin <rain> & wind', 61.0, 3725.5, 0.5)
TIMES = st.integers(0, 10**7).map(lambda ms: ms / 1000)
LABELS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(["a", "b", "c d"]), st.lists(st.tuples(LABELS, TIMES, TIMES), max_size=4)))
def test_a_table_reads_back(tmp_path_factory: pytest.TempPathFactory, found: dict[str, list[tuple]]) -> None:
    recordings = {
        name: [Event(label, min(a, b), max(a, b), 0.25) for label, a, b in events] for name, events in found.items()
    }
    path = tmp_path_factory.getbasetemp() / "table.tsv"
    path.write_text(to_tsv({f"{name}.wav": events for name, events in recordings.items()}), encoding="utf-8")
    assert read_events(path) == recordings


def test_json_lines_and_manifests_read_alike(tmp_path: Path) -> None:
    lines = [
        {"path": "audio/one.wav", "events": [to_record(DOG)], "extra": 1},
        {"audio_path": "two.ogg", "events": [{"label": "dog", "onset": 1, "offset": 2}]},
        {"id": "three"},
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert read_events(path) == {"one": [DOG], "two": [Event("dog", 1.0, 2.0)], "three": []}


def test_audacity_and_webvtt() -> None:
    assert to_audacity([DOG, RAIN]) == (
        '0.500000\t1.250000\tdog\n61.000000\t3725.500000\ta "tin" roof in <rain> & wind\n'
    )
    assert to_vtt([DOG, RAIN]) == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.250\ndog\n\n"
        '00:01:01.000 --> 01:02:05.500\na "tin" roof in &lt;rain&gt; &amp; wind\n'
    )
    assert to_vtt([]) == "WEBVTT\n"


@pytest.mark.slow
@given(rows=st.integers(1, 3), frames=st.integers(0, 30), cut=st.floats(0.001, 0.04), seed=st.integers(0, 99))
def test_scores_read_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, rows: int, frames: int, cut: float, seed: int
) -> None:
    values = np.random.default_rng(seed).random((rows, frames)).astype(np.float32)
    scores = FrameScores(tuple("abc"[:rows]), values, max(frames * 0.04 - 0.04 + cut, 0.0) if frames else 0.0)
    path = tmp_path_factory.getbasetemp() / "scores.tsv"
    write_scores(path, scores)
    back = read_scores(path)
    assert np.array_equal(back.probabilities, values)
    assert back.labels == scores.labels
    assert back.duration == pytest.approx(scores.duration, abs=1e-6)
    if frames > 1:
        assert back.frame == pytest.approx(0.04)


@pytest.mark.slow
def test_sed_scores_eval_reads_what_is_written(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pytest.importorskip("sed_scores_eval").base_modules.io
    values = np.random.default_rng(0).random((2, 9)).astype(np.float32)
    (tmp_path / "scores").mkdir()
    write_scores(tmp_path / "scores" / "one.tsv", FrameScores(("dog", "cat"), values, 0.35))
    table = theirs.read_sed_scores(tmp_path / "scores")["one"]
    assert list(table) == ["onset", "offset", "dog", "cat"]
    assert np.array_equal(table[["dog", "cat"]].to_numpy().T.astype(np.float32), values)
    assert table["offset"].iloc[-1] == 0.35
    assert read_score_folder(tmp_path / "scores").keys() == {"one"}
    (tmp_path / "events.tsv").write_text(to_tsv({"one.wav": [DOG, RAIN], "two.wav": []}))
    events = theirs.read_ground_truth_events(tmp_path / "events.tsv")
    assert events == {"one": [[e.onset, e.offset, e.label] for e in (DOG, RAIN)], "two": []}


def test_tables_of_other_frame_lengths_are_read(tmp_path: Path) -> None:
    (tmp_path / "s.tsv").write_text("onset\toffset\tdog\n0.0\t0.1\t0.5\n0.1\t0.2\t0.25\n0.2\t0.25\t1.0\n")
    scores = read_scores(tmp_path / "s.tsv")
    assert (scores.frame, scores.duration) == (pytest.approx(0.1), 0.25)
    assert scores.edges.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.25])


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("m.jsonl", "{nonsense", "m.jsonl:1: not a recording"),
        ("m.jsonl", '{"path": "a.wav", "events": [{"label": "dog"}]}', "m.jsonl:1"),
        ("m.jsonl", '{"path": "x/a.wav"}\n{"path": "x/a.wav"}', "m.jsonl:2: a second recording of the name x/a.wav"),
        ("m.jsonl", '{"path": "a.wav"}\n{"path": "a.mp3"}', "m.jsonl:2: a.mp3 and a.wav differ in their suffix alone"),
        ("m.jsonl", '{"path": "a.wav"}\n' + "[" * 200_000, "m.jsonl:2: .*nested too deeply"),
        ("m.jsonl", "[1]", "m.jsonl:1"),
        ("m.tsv", "filename\tonset\n", "event_label, offset"),
        ("m.tsv", "filename\tonset\toffset\tevent_label\na.wav\tx\t1\tdog\n", "m.tsv:2"),
        ("m.csv", "filename,onset,offset,event_label\na.wav,0,1,dog, big\n", "m.csv:2: 5 cells under 4 names"),
        ("m.csv", 'filename,onset,offset,event_label\na.wav,0,1,"dog\nb.wav,0,1,cat\n', "m.csv:2: .*quote may be open"),
        ("m.csv", "filename,onset,offset,event_label\na.wav,0,1,dog\na.mp3,0,1,cat\n", "m.csv:3: a.mp3 and a.wav"),
        ("m.txt", "0.5\t1.5\tdog\n1.5 2.5 cat\n", "m.txt:2: not a label"),
        ("m.txt", "0.5\t1.5\tdog\n2.5\t1.5\tcat\n", "m.txt:2: .*before onset"),
    ],
)
def test_files_that_hold_no_events_say_why(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(EventsError, match=reason):
        read_events(tmp_path / name)


WRONG: list[Any] = [None, True, "x", [], {}, -1, float("nan"), float("inf"), 10**400]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, value) for field in ("onset", "offset") for value in WRONG),
        *(("score", value) for value in WRONG),
        *(("label", value) for value in (None, 5, True, [], {}, "\ud800")),
        ("onset", 3),
    ],
)
def test_a_wrong_value_in_an_event_is_an_events_error_with_its_line(tmp_path: Path, field: str, value: Any) -> None:
    event = {"label": "dog", "onset": 0.5, "offset": 1.5, "score": 0.5} | {field: value}
    path = tmp_path / "m.jsonl"
    path.write_text('{"path": "a.wav"}\n\n' + json.dumps({"path": "b.wav", "events": [event]}))
    with pytest.raises(EventsError, match=r"m\.jsonl:3: "):
        read_events(path)
    if not isinstance(value, (list, dict)) and (field, value) not in (
        ("label", 5),
        ("label", True),
        ("label", "\ud800"),
    ):
        if (field, value) in (
            ("score", None),
            ("label", None),
        ):  # an empty cell: a score of 1, a recording without events
            return
        row = "\t".join(
            str({**event, field: "" if value is None else value}[key]) for key in ("onset", "offset", "label", "score")
        )
        (tmp_path / "m.tsv").write_text(f"filename\tonset\toffset\tevent_label\tscore\na.wav\t{row}\n")
        with pytest.raises(EventsError, match=r"m\.tsv:2: "):
            read_events(tmp_path / "m.tsv")


@pytest.mark.parametrize(
    "wrong", ['{"id": 5}', '{"path": ["a"]}', '{"path": "a", "events": 5}', '{"path": "a", "events": [5]}', "{}"]
)
def test_a_wrong_recording_is_an_events_error_with_its_line(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "m.jsonl").write_text('{"path": "z.wav"}\n' + wrong)
    with pytest.raises(EventsError, match=r"m\.jsonl:2: not a recording"):
        read_events(tmp_path / "m.jsonl")


ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@pytest.mark.slow
@given(ANY.filter(str.strip), ANY)
def test_whatever_a_label_holds_a_table_keeps_it_and_a_track_keeps_its_words(
    tmp_path_factory: pytest.TempPathFactory, label: str, name: str
) -> None:
    folder, event = tmp_path_factory.getbasetemp(), Event(label, 0.5, 1.5)
    (folder / "t.tsv").write_text(to_tsv({f"a/{name}.wav": [event]}), encoding="utf-8", newline="")
    (found,) = read_events(folder / "t.tsv", folders=True).values()
    assert found == [event]
    (folder / "t.txt").write_text(to_audacity([event, Event("next", 2, 3)]), encoding="utf-8", newline="")
    (found,) = read_events(folder / "t.txt").values()
    assert [one.label for one in found] == [" ".join(label.split()), "next"]
    blocks = to_vtt([event, Event("next", 2, 3)]).split("\n\n")
    assert [html.unescape(block.partition("\n")[2]).strip("\n") for block in blocks[1:]] == [
        " ".join(label.split()),
        "next",
    ]


def test_marks_and_line_ends_change_nothing(shared: Path, tmp_path: Path) -> None:
    assert read_events(shared / "cases" / "truth_bom.tsv") == {"a": [Event("dog", 0.5, 1.5)]}
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbffilename,onset,offset,event_label\r\na.wav,0.5,1.5,dog\r\n")
    assert read_events(tmp_path / "t.csv") == {"a": [Event("dog", 0.5, 1.5)]}
    write_thresholds(tmp_path / "t.json", {"dog": 0.5})
    (tmp_path / "t.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "t.json").read_bytes())
    assert read_thresholds(tmp_path / "t.json") == {"dog": 0.5}
    (tmp_path / "t.tsv").write_text("filename\tonset\toffset\tevent_label\n", encoding="utf-16")
    with pytest.raises(EventsError, match=r"t\.tsv: UTF-16; save it as UTF-8"):
        read_events(tmp_path / "t.tsv")


@pytest.mark.parametrize(
    "text", ["[", "[]", '{"dog": null}', '{"dog": true}', '{"dog": NaN}', '{"dog": "x"}', "[" * 200_000]
)
def test_what_is_no_table_of_thresholds_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(EventsError, match=r"t\.json: no thresholds"):
        read_thresholds(tmp_path / "t.json")


def test_manifests_of_any_kind_are_truth(tmp_path: Path) -> None:
    records = [
        {"path": "home/1.wav", "events": [{"label": "dog", "onset": 0.5, "offset": 1.5, "texts": ["a, b"]}]},
        {"path": "street/1.wav", "events": None},
    ]
    write_manifest(tmp_path / "m.jsonl", records)
    write_manifest(tmp_path / "m.parquet", records)
    with open(tmp_path / "m.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "events"])
        table.writerows((record["path"], json.dumps(record["events"])) for record in records)
    for suffix in ("jsonl", "parquet", "csv"):
        assert read_events(tmp_path / f"m.{suffix}") == {"home/1": [Event("dog", 0.5, 1.5)], "street/1": []}


MARKS = [
    '"',
    ",",
    "\t",
    "\n",
    "\r\n",
    "\r",
    ";",
    "{",
    "}",
    "[",
    "]",
    ":",
    " ",
    "\0",
    "\\",
    "1",
    "-1",
    "1e999",
    "NaN",
    "null",
]
HEADS = [
    "filename,onset,offset,event_label\n",
    "filename\tonset\toffset\tevent_label\n",
    "path,events\n",
    "path,start\n",
]
EVENTS = '{"path": "a.wav", "events": [{"label": "dog", "onset": 0, "offset": 1}]}'
PIECES = st.sampled_from([*MARKS, *HEADS, EVENTS, "dog", "a.wav", '{"audio": "x"}', "\ufeff", "\u2028"])


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=20) | st.lists(PIECES, max_size=25).map("".join).map(str.encode))
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "txt", "parquet"])
def test_any_bytes_are_events_and_rows_or_a_typed_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any.{suffix}"
    path.write_bytes(data)
    with suppress(EventsError, ManifestError):
        assert all(0 <= e.onset <= e.offset < math.inf for events in read_events(path).values() for e in events)
    with suppress(ManifestError):
        read_manifest(path)


def test_two_recordings_of_one_file_name_are_two(shared: Path) -> None:
    wanted = {"home/1": [Event("dog", 0.0, 1.0)], "street/1": [Event("dog", 5.0, 6.0)]}
    assert read_events(shared / "cases" / "t_stem.tsv") == wanted


def test_label_tracks_are_read_as_they_are_written_and_as_audacity_writes_them(tmp_path: Path) -> None:
    for name in ("home/1", "street/1", "two.wav"):
        path = tmp_path / "truth" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_audacity([Event(name, 0.5, 1.5)]) + "\\\t100.0\t200.0\n2.0\t2.0\tpoint\n")
    tracks = read_events(tmp_path / "truth", folders=True)
    assert tracks.keys() == {"home/1", "street/1", "two"}
    assert tracks["two"] == [Event("two.wav", 0.5, 1.5), Event("point", 2.0, 2.0)]
    assert read_events(tmp_path / "truth" / "two.wav.txt") == {"two": tracks["two"]}
    (tmp_path / "truth" / "two.txt").write_text("")
    with pytest.raises(EventsError, match=r"two.wav.txt: the recording of .*two.txt, too"):
        read_events(tmp_path / "truth")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EventsError, match="no label tracks"):
        read_events(tmp_path / "empty")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a\tb\n", "no score table"),
        ("onset\toffset\tdog\n0\t1\n", "column|number"),
        ("onset\toffset\tdog\n0\t1\tx\n", "number"),
        ("onset\toffset\tdog\n0\t1\t.5\n2\t3\t.5\n", "one length"),
    ],
)
def test_files_that_hold_no_scores_say_why(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "s.tsv").write_text(text)
    with pytest.raises(EventsError, match=reason):
        read_scores(tmp_path / "s.tsv")
    with pytest.raises(EventsError, match="no such file"):
        read_scores(tmp_path / "absent.tsv")
    with pytest.raises(EventsError, match="no score tables"):
        read_score_folder(tmp_path / "absent")
