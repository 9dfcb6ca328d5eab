"""Files of events and scores: what is written is read back, by us and by sed_scores_eval."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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

DOG, RAIN = Event("dog", 0.5, 1.25, 0.75), Event('a "tin" roof\tin <rain> & wind', 61.0, 3725.5, 0.5)
TIMES = st.integers(0, 10**7).map(lambda ms: ms / 1000)
LABELS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@given(st.dictionaries(st.sampled_from(["a", "b", "c d"]), st.lists(st.tuples(LABELS, TIMES, TIMES), max_size=4)))
def test_a_table_reads_back(tmp_path_factory: pytest.TempPathFactory, found: dict[str, list[tuple]]) -> None:
    recordings = {name: [Event(label, a, b, 0.25) for label, a, b in events] for name, events in found.items()}
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
        ("m.jsonl", '{"path": "x/a.wav"}\n{"path": "y/a.wav"}', "second recording"),
        ("m.jsonl", "[1]", "m.jsonl:1"),
        ("m.tsv", "filename\tonset\n", "event_label, offset"),
        ("m.tsv", "filename\tonset\toffset\tevent_label\na.wav\tx\t1\tdog\n", "m.tsv:2"),
    ],
)
def test_files_that_hold_no_events_say_why(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(EventsError, match=reason):
        read_events(tmp_path / name)


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
