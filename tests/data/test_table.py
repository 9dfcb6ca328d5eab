"""A table has the rows of the manifests that it was made of, refuses what they refuse, and is made once."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peav.data import columns, sampler, tabulate
from peav.data.columns import doubtful
from peav.data.manifest import Row, parse_row, read_manifest, unique, write_manifest
from peav.data.table import RowTable, select
from peav.data.table_index import EDGES, Group
from peav.data.tabulate import count_rows, find_table, is_large, make_table
from peav.data.transforms import Where
from peav.errors import ManifestError

SPLITS = (None, "train", "validation", "test", "other")


def record(number: int) -> dict[str, Any]:
    """A clip with everything, of all kinds in turn."""
    return {
        "id": f"clip/{number}",
        "path": f"media/{number}.mp4" if number % 3 else None,
        "audio_path": None if number % 3 else f"media/{number}.wav",
        "start": [None, 0.5, 2.0][number % 3],
        "end": [None, 3.5, 40.0][number % 3],
        "duration": 12.5 if number % 2 else None,
        "captions": {"audio": [f"sound {number}"], "video": None if number % 4 else ["a red ball"]},
        "synthetic": {"audio": ["ein Ton, größer", "two"]} if number % 5 == 0 else None,
        "transcript": "hello" if number % 7 == 0 else None,
        "events": [{"onset": 0.5, "offset": 1.0, "label": "bell"}] if number % 6 == 0 else None,
        "split": SPLITS[number % 5],
        "source": ["web", "field", None][number % 3],
        "license": ["CC0", None][number % 2],
        "fold": number % 4,
        "mood": number / 2,
    }


def written(folder: Path, name: str, records: list[dict[str, Any]]) -> str:
    """A manifest by the suffix of its name."""
    path, kind = folder / name, Path(name).suffix
    if kind == ".arrow":
        names = dict.fromkeys(key for one in records for key in one)
        table = pa.Table.from_pylist([dict.fromkeys(names) | one for one in records])
        with pa.ipc.new_file(str(path), table.schema) as file:
            file.write_table(table, max_chunksize=7)
    elif kind == ".csv":
        names = list(dict.fromkeys(key for one in records for key in one))
        cells = [[one.get(key) for key in names] for one in records]
        texts = [
            ["" if x is None else json.dumps(x) if isinstance(x, (dict, list)) else str(x) for x in c] for c in cells
        ]
        path.write_text("\n".join(",".join('"' + x.replace('"', '""') + '"' for x in row) for row in [names, *texts]))
    else:
        write_manifest(path, records)
    return str(path)


@pytest.fixture(autouse=True)
def short_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a hundred rows are in several."""
    monkeypatch.setattr(columns, "ROWS", 16)
    monkeypatch.setattr(tabulate, "ROWS", 16)
    monkeypatch.setattr("peav.data.table_index.CHUNK", 10)


def in_order(rows: RowTable) -> list[Row]:
    """The rows as the manifest has them."""
    return [rows.rows.row(number) for number in range(len(rows))]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", ".arrow"])
def test_a_table_has_just_the_rows_of_its_manifest(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, f"m{suffix}", [record(number) for number in range(100)])
    table, rows = make_table([path], tmp_path / "cache"), read_manifest(path)
    assert in_order(table) == rows
    assert sorted(table, key=lambda row: row.id) == sorted(rows, key=lambda row: row.id)
    assert table[-1] == list(table)[-1]
    assert table[3:90:9] == list(table)[3:90:9]
    with pytest.raises(IndexError):
        table[100]


def test_rows_of_several_manifests_have_the_folders_and_columns_of_theirs(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    paths = [
        written(tmp_path, "a.parquet", [record(number) for number in range(40)]),
        written(tmp_path / "b", "b.jsonl", [{"path": f"{number}.wav", "fold": 10**30} for number in range(30)]),
        written(tmp_path / "b", "c.parquet", [{"id": f"c{number}", "path": "x.mp4", "end": 2} for number in range(20)]),
    ]
    table = make_table(paths, tmp_path / "cache")
    assert in_order(table) == [row for path in paths for row in read_manifest(path)]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_what_is_chosen_of_a_table_is_what_is_chosen_of_its_rows(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, f"m{suffix}", [record(number) for number in range(100)])
    table, rows = make_table([path], tmp_path / "cache"), read_manifest(path)
    for chosen in (
        lambda one: one.trains,
        lambda one: one.split == "validation",
        lambda one: bool(one.transcript),
        lambda one: bool(one.audio_path) and not one.video_path,
        lambda one: one.source == "web" and one.trains,
        lambda one: False,
    ):
        some, listed = select(table, chosen), select(rows, chosen)
        assert sorted(some, key=lambda row: row.id) == sorted(listed, key=lambda row: row.id)
        assert len(some) == len(listed)
        assert some.licenses() == Counter(row.license or "unknown" for row in listed)
        # Within a group the manifest's order is kept.
        places = {row.id: place for place, row in enumerate(rows)}
        for group in some.groups:
            own = [places[row.id] for row in some.where(lambda one, group=group: one == group)]
            assert own == sorted(own)


@pytest.mark.parametrize(
    "asked", [{}, {"source": "web"}, {"at_least": 10.0}, {"at_least": 2, "below": 5}, {"below": 5}], ids=str
)
def test_clips_of_one_source_or_length_are_chosen_alike_of_lists_and_tables(tmp_path: Path, asked: dict) -> None:
    path = written(tmp_path, "m.parquet", [record(number) for number in range(100)])
    table, rows = make_table([path], tmp_path / "cache"), read_manifest(path)
    expected = [
        row
        for row in rows
        if row.source == asked.get("source", row.source)
        and (
            not asked.keys() & {"at_least", "below"}
            or (seconds(row) is not None and asked.get("at_least", 0) <= seconds(row) < asked.get("below", math.inf))
        )
    ]
    assert Where(**asked).all_rows(rows) == expected
    assert sorted(Where(**asked).all_rows(table), key=lambda row: row.id) == sorted(expected, key=lambda row: row.id)
    assert expected


def test_a_length_that_clips_are_not_sorted_by_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at_least is one of 0, 2, 5, 10, .* seconds, not 7"):
        Where(at_least=7.0)


def seconds(row: Row) -> float | None:
    end = row.end if row.end is not None else row.extra.get("duration")
    return None if end is None else end - (row.start or 0)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_groups_say_of_each_row_what_is_so(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, f"m{suffix}", [record(number) for number in range(100)])
    table = make_table([path], tmp_path / "cache")
    for group in table.groups:
        for row in table.where(lambda one, group=group: one == group):
            lasts = seconds(row)
            least = None if lasts is None else max(edge for edge in EDGES if edge <= lasts)
            said = (row.split, row.source, row.extra["fold"], least)
            said += (row.audio_path is not None, row.video_path is not None, bool(row.transcript))
            assert said == tuple(getattr(group, name) for name in list(Group.__dataclass_fields__)[:7])


def test_a_table_may_give_other_splits_and_sound_alone(tmp_path: Path) -> None:
    path = written(tmp_path, "m.parquet", [record(number) for number in range(30)])
    table = make_table([path], tmp_path / "cache")
    heard = table.changed(lambda group: replace(group, split="test", video_path=False))
    assert {row.split for row in heard} == {"test"}
    assert [row.video_path for row in heard] == [None] * 30
    assert [row.id for row in heard] == [row.id for row in table]


def test_some_rows_are_evenly_taken_and_the_same_each_time(tmp_path: Path) -> None:
    path = written(tmp_path, "m.parquet", [record(number) for number in range(100)])
    table = make_table([path], tmp_path / "cache")
    some = [row.id for row in table.some(50)]
    assert some == [row.id for row in table.some(50)]
    assert len(set(some)) == 50
    assert {row.source for row in table.some(50)} == {"web", "field", None}
    assert list(table.some(1000)) == list(table)


BAD = [
    {"path": None},
    {"path": ""},
    {"path": "a.wav", "start": 3.0, "end": 2.0},
    {"path": "a.wav", "start": 2.0, "end": 2.0},
    {"path": "a.wav", "end": 0.0},
    {"path": "a.wav", "start": -1.0},
    {"path": "a.wav", "start": math.nan},
    {"path": "a.wav", "end": math.inf},
    {"path": "a\0.wav"},
    {"path": "a.wav", "id": ""},
    {"path": "a.wav", "id": 7},
    {"path": "a.wav", "captions": "rain"},
    {"path": "a.wav", "captions": {"sound": ["rain"]}},
    {"path": "a.wav", "captions": {"audio": ["rain", None]}},
    {"path": "a.wav", "text": ["rain", None]},
    {"path": "a.wav", "split": 3},
    {"path": "a.wav", "fold": 1.5},
    {"path": "a.wav", "events": [{"onset": 2.0, "offset": 1.0, "label": "bell"}]},
    {"path": "a.wav", "words": [{"word": "hi", "start": 2.0, "end": None}]},
    {"path": "a.wav", "start": "soon"},
]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".arrow"])
@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_bad_row_is_refused_as_ever_and_named(tmp_path: Path, bad: dict, suffix: str) -> None:
    good = [dict.fromkeys(bad) | {"path": f"{number}.wav"} for number in range(20)]
    path = written(tmp_path, f"m{suffix}", [*good, bad])
    with pytest.raises(ManifestError) as expected:
        read_manifest(path)
    with pytest.raises(ManifestError) as found:
        make_table([path], tmp_path / "cache")
    assert str(found.value) == str(expected.value)
    assert "m" + suffix in str(found.value)
    assert os.listdir(tmp_path / "cache" / "manifests") == []


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_an_id_that_stands_twice_is_refused_with_both_places(tmp_path: Path, suffix: str) -> None:
    records = [{"id": f"c{number}", "path": "a.wav"} for number in range(50)]
    records[31] = records[7]
    records[40] = records[30] = records[2]
    path = written(tmp_path, f"m{suffix}", records)
    with pytest.raises(ManifestError) as expected:
        read_manifest(path)
    with pytest.raises(ManifestError) as found:
        make_table([path], tmp_path / "cache")
    assert str(found.value) == str(expected.value)


def test_an_id_that_stands_in_two_manifests_is_refused(tmp_path: Path) -> None:
    paths = [written(tmp_path, name, [{"id": "c", "path": "a.wav"}]) for name in ("a.jsonl", "b.parquet")]
    with pytest.raises(ManifestError, match=r"b.parquet:1: id 'c' stands twice, first at .*a.jsonl:1"):
        make_table(paths, tmp_path / "cache")


TIMES = st.none() | st.floats(allow_nan=True, width=64) | st.floats(0, 9)
TEXTS = st.none() | st.sampled_from(["", "a", "a.wav", "é\u2028\0"]) | st.text(max_size=3)
LISTS = st.none() | st.lists(TEXTS, max_size=2)
RECORDS = st.fixed_dictionaries(
    {
        "id": TEXTS,
        "path": TEXTS,
        "audio_path": TEXTS,
        "start": TIMES,
        "end": TIMES,
        "captions": st.none() | st.fixed_dictionaries({"audio": LISTS, "video": LISTS}),
        "text": LISTS,
        "transcript": TEXTS,
        "licence": TEXTS,
        "fold": st.none() | st.integers(0, 9) | st.floats(),
        "events": st.none()
        | st.lists(st.fixed_dictionaries({"onset": TIMES, "offset": TIMES, "label": TEXTS}), max_size=2),
    }
)


@settings(max_examples=300, deadline=None)
@given(records=st.lists(RECORDS, min_size=1, max_size=4))
def test_rows_that_are_not_doubted_are_rows(records: list[dict]) -> None:
    """By the column as one by one: what `doubtful` lets through is right, and it is known of each row what it says."""
    with suppress(pa.ArrowException, UnicodeEncodeError):  # no columns of one type
        batch = pa.RecordBatch.from_pylist(records)
        doubt = set(doubtful(batch).tolist())
        told = columns.facts(batch).to_pylist()
        for place, one in enumerate(batch.to_pylist()):
            row = None
            if place in doubt:
                with suppress(ManifestError):
                    row = parse_row(one, Path("/data"), "m")
            else:
                row = parse_row(one, Path("/data"), "m")
            if row is not None:
                assert told[place] == tabulate._facts(row) | {"fold": told[place]["fold"]}


def test_a_table_is_found_again_until_its_manifest_changes(tmp_path: Path) -> None:
    path, cache = written(tmp_path, "m.jsonl", [record(number) for number in range(20)]), tmp_path / "cache"
    assert find_table([path], cache) is None
    made: list[int] = []
    first = make_table([path], cache, made.append)
    assert made == [16, 20]
    assert make_table([path], cache, made.append).folder == first.folder
    assert find_table([path], cache).folder == first.folder
    assert made == [16, 20]
    written(tmp_path, "m.jsonl", [record(number) for number in range(21)])
    assert find_table([path], cache) is None
    assert len(make_table([path], cache)) == 21


def test_a_table_that_is_found_from_another_folder_has_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    written(tmp_path / "here", "m.jsonl", [record(number) for number in range(5)])
    monkeypatch.chdir(tmp_path / "here")
    made = list(make_table(["m.jsonl"], tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "there")
    found = find_table(["../here/m.jsonl"], tmp_path / "cache")
    assert found is not None
    assert list(found) == made == read_manifest(tmp_path / "here" / "m.jsonl")


def test_one_process_makes_a_table_and_the_others_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache, made = written(tmp_path, "m.jsonl", [record(number) for number in range(40)]), tmp_path / "cache", []
    monkeypatch.setattr(tabulate, "WAIT", 0.02)

    def slow(done: int) -> None:
        made.append(done)
        time.sleep(0.1)

    with ThreadPoolExecutor(3) as pool:
        tables = list(pool.map(lambda _: make_table([path], cache, slow), range(3)))
    assert made == [16, 32, 40]
    assert len({table.folder for table in tables}) == 1
    assert sorted(os.listdir(cache / "manifests")) == [tables[0].folder.name]


MAKE = """
import sys, time
from peav.data import tabulate
print("ready", flush=True)
sys.stdin.readline()
table = tabulate.make_table(sys.argv[1:2], sys.argv[2], lambda done: (print("made", done), time.sleep(0.2)))
print("rows", len(table), table[5].id)
"""


@pytest.mark.slow
def test_of_several_processes_one_makes_the_table_and_all_have_it(tmp_path: Path) -> None:
    path = written(tmp_path, "m.jsonl", [record(number) for number in range(40)])
    command = [sys.executable, "-c", MAKE, path, str(tmp_path / "cache")]
    asking = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(3)
    ]
    for process in asking:
        assert process.stdout.readline() == "ready\n"
    for process in asking:
        process.stdin.write("go\n")
    said = [process.communicate()[0].splitlines() for process in asking]
    assert sorted(map(len, said)) == [1, 1, 2]
    assert len({lines[-1] for lines in said}) == 1


def test_what_a_killed_process_left_is_made_anew(tmp_path: Path) -> None:
    path, cache = written(tmp_path, "m.jsonl", [record(number) for number in range(40)]), tmp_path / "cache"
    folder = make_table([path], cache).folder
    (folder / "table.json").unlink()
    folder.rename(folder.with_suffix(".tmp"))
    assert find_table([path], cache) is None
    assert in_order(make_table([path], cache)) == read_manifest(path)


def test_a_table_goes_to_another_process_as_its_name(tmp_path: Path) -> None:
    path = written(tmp_path, "m.parquet", [record(number) for number in range(40)])
    table = make_table([path], tmp_path / "cache").where(lambda group: group.trains)
    sent = pickle.dumps(table)
    assert len(sent) < 10_000
    assert list(pickle.loads(sent)) == list(table)


def test_the_digest_tells_rows_apart_and_not_where_their_files_lie(tmp_path: Path) -> None:
    digests = []
    for number, change in enumerate([{}, {"path": "/elsewhere/1.mp4"}, {"transcript": "bye"}]):
        (tmp_path / str(number)).mkdir()
        for suffix in (".jsonl", ".parquet"):
            records = [record(1) | change, record(2)]
            table = make_table([written(tmp_path / str(number), f"m{suffix}", records)], tmp_path / "cache")
            digests.append(table.digest)
            assert table.where(lambda group: group.trains).digest != table.digest
    assert digests[:2] == digests[2:4]
    assert set(digests[4:]) & set(digests[:4]) == set()


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv", "m.parquet", "m.arrow"])
def test_the_rows_of_manifests_are_counted_without_reading_them(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, [record(number) for number in range(40)])
    assert abs(count_rows([path]) - 40) <= 1
    assert not is_large([path])
    assert count_rows([path, path], most=30) > 30
    assert count_rows([str(tmp_path / "absent.jsonl")]) == 0


def test_parquet_with_a_dictionary_in_each_group_of_rows_is_read(tmp_path: Path) -> None:
    records = [record(number) | {"captions": None, "synthetic": None, "events": None} for number in range(60)]
    table = pa.Table.from_pylist(records)
    for name in ("source", "license"):
        table = table.set_column(table.schema.names.index(name), name, table[name].dictionary_encode())
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=13)
    path = str(tmp_path / "m.parquet")
    assert in_order(make_table([path], tmp_path / "cache")) == read_manifest(path)


def test_more_sources_than_can_be_kept_apart_are_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peav.data.table_index.NAMES", 3)
    records = [{"path": f"{n}.wav", "source": f"s{n}", "license": f"by {n}"} for n in range(40)]
    table = make_table([written(tmp_path, "m.jsonl", records)], tmp_path / "cache")
    assert {group.source for group in table.groups} == {"s0", "s1", "s2", None}
    assert {row.source for row in table} == {f"s{n}" for n in range(40)}
    assert table.licenses() == {"by 0": 1, "by 1": 1, "by 2": 1, "others": 37}


def test_a_fold_of_each_row_s_own_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peav.data.table_index.GROUPS", 30)
    path = written(tmp_path, "m.jsonl", [{"path": f"{n}.wav", "fold": n} for n in range(40)])
    with pytest.raises(ManifestError, match="more than 30 different splits, folds"):
        make_table([path], tmp_path / "cache")


def test_the_line_of_large_is_the_sampler_s() -> None:
    assert tabulate.LARGE == sampler.LARGE == 2**20


def test_the_same_rows_in_manifests_and_table_refuse_the_same(tmp_path: Path) -> None:
    paths = [written(tmp_path, "a.jsonl", [record(1)]), written(tmp_path, "b.jsonl", [record(2), record(1)])]
    with pytest.raises(ManifestError) as expected:
        unique((path, row) for path in paths for row in read_manifest(path))
    with pytest.raises(ManifestError) as found:
        make_table(paths, tmp_path / "cache")
    assert "id 'clip/1' stands twice" in str(found.value)
    assert "id 'clip/1' stands twice" in str(expected.value)
