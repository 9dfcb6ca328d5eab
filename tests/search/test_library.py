"""The library on disk: what is written is what is read, nothing is lost, nothing is doubled; search is exact."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peav.checkpoint.identity import FORMER
from peav.search import LibraryError, LibraryRow, LibraryWriter, Query, search
from peav.search.library import DEFAULT_WINDOW, open_library, window_of
from peav.search.query import Vector
from peav.types import MODALITIES

DIM, MODEL, WINDOW = 6, "0123456789abcdef", 30.0


def row(path: str, start: float = 0.0, *, seed: int = 0, modality: str = "audio_video", size: int = 10) -> LibraryRow:
    rng = np.random.default_rng([seed, int(start)])
    spaces = ("audio", "video", "audio_video") if modality == "audio_video" else (modality,)
    embeddings = {space: rng.normal(size=DIM).astype(np.float32) for space in spaces}
    return LibraryRow(path, modality, start, start + 30, 60.0, size, 5, embeddings)


def writer(path: Path, window: float | None = WINDOW, *, resume: bool = True) -> LibraryWriter:
    return LibraryWriter(path, DIM, MODEL, "a model", window, resume)


def add(library: LibraryWriter, *rows: LibraryRow) -> None:
    """All windows of one file."""
    for entry in rows:
        library.add(entry)
    library.complete((rows[0].path, rows[0].size, rows[0].mtime))


def write(path: Path, rows: list[LibraryRow]) -> int:
    library = writer(path)
    for entry in rows:
        add(library, entry)
    return library.finish()


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    rows = [row("a.mp4"), row("b.wav", modality="audio", seed=1), row("c.mp4", modality="video", seed=2)]
    assert write(tmp_path / "lib.parquet", rows) == 3
    table = pq.read_table(tmp_path / "lib.parquet").to_pylist()
    for read, wrote in zip(table, rows, strict=True):
        for name in ("path", "modality", "start", "end", "duration", "size", "mtime"):
            assert read[name] == getattr(wrote, name)
        for space in ("audio", "video", "audio_video"):
            kept = wrote.embeddings.get(space)
            assert read[space] is None if kept is None else np.array_equal(np.float32(read[space]), kept)
        assert read["model"] == MODEL
    assert not (tmp_path / "lib.parquet.parts").exists()


def test_a_library_of_the_shipped_model_from_before_ids_were_of_all_weights_goes_on(tmp_path: Path) -> None:
    ((tiny, former),) = FORMER.items()
    path = tmp_path / "lib.parquet"
    for model_id, name in ((former, "a.mp4"), (tiny, "b.mp4")):
        library = LibraryWriter(path, DIM, model_id, "tiny", WINDOW)
        add(library, row(name))
        library.finish()
    with open_library(str(path), tiny) as opened:
        assert opened.metadata.num_rows == 2
    other = tmp_path / "other.parquet"
    write(other, [row("a.mp4")])
    with pytest.raises(LibraryError, match=r"with an older peav, which did not note all .* embed the files anew"):
        open_library(other, tiny)


def test_a_killed_run_loses_only_what_is_not_yet_on_the_disk(tmp_path: Path) -> None:
    first = writer(tmp_path / "lib.parquet")
    add(first, row("a.mp4"), row("a.mp4", 30.0))
    first.flush()
    add(first, row("b.mp4"))  # collected, not yet written, when the process dies
    first.lock.release()  # as the system does for a killed process
    with pytest.raises(LibraryError, match="run the same `peav embed` again"):
        open_library(tmp_path / "lib.parquet")
    second = writer(tmp_path / "lib.parquet")
    assert second.has(("a.mp4", 10, 5))
    assert not second.has(("b.mp4", 10, 5))
    add(second, row("b.mp4"))
    assert second.finish() == 3


def test_a_changed_file_replaces_its_old_rows_and_no_others(tmp_path: Path) -> None:
    write(tmp_path / "lib.parquet", [row("a.mp4"), row("a.mp4", 30.0), row("b.mp4")])
    again = writer(tmp_path / "lib.parquet")
    assert not again.has(("a.mp4", 99, 5))
    add(again, row("a.mp4", size=99, seed=7))
    assert again.finish() == 2
    table = pq.read_table(tmp_path / "lib.parquet").to_pylist()
    assert sorted((entry["path"], entry["size"]) for entry in table) == [("a.mp4", 99), ("b.mp4", 10)]


def test_a_file_that_changed_between_two_parts_counts_once(tmp_path: Path) -> None:
    library = writer(tmp_path / "lib.parquet")
    for size in (1, 2, 3):
        add(library, row("a.mp4", size=size))
        library.flush()
    assert library.finish() == 1
    assert pq.read_table(tmp_path / "lib.parquet")["size"].to_pylist() == [3]


def test_without_resume_the_library_starts_anew(tmp_path: Path) -> None:
    write(tmp_path / "lib.parquet", [row("a.mp4")])
    anew = writer(tmp_path / "lib.parquet", resume=False)
    assert not anew.has(("a.mp4", 10, 5))
    add(anew, row("b.mp4"))
    assert anew.finish() == 1


def test_another_models_library_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lib.parquet"
    write(path, [row("a.mp4")])
    query = Query({"audio": Vector(np.ones(DIM, np.float32))})
    with pytest.raises(LibraryError, match="made by model 'a model'"):
        search(path, query, "another")
    with pytest.raises(LibraryError, match="made by model 'a model'"):
        LibraryWriter(path, DIM, "another", "another model", WINDOW)


def test_windows_of_another_length_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "lib.parquet"
    with writer(path) as unfinished:
        add(unfinished, row("a.mp4"))
        unfinished.flush()
    advice = r"cut into windows of 30\.0 s, not of 10\.0 s; give a window of 30\.0 s, or .* with --no-resume \(in"
    with pytest.raises(LibraryError, match=advice):
        writer(path, 10.0)
    assert writer(path).finish() == 1
    with open_library(path) as library:
        assert window_of(library) == WINDOW
    with pytest.raises(LibraryError, match=advice):
        writer(path, 10.0)
    assert not path.with_name("lib.parquet.parts").exists()
    with writer(path, 10.0, resume=False) as anew:
        add(anew, row("b.mp4"))
        assert anew.finish() == 1
    with open_library(path) as library:
        assert window_of(library) == 10.0


def test_a_library_keeps_its_windows_where_none_are_asked_for(tmp_path: Path) -> None:
    for name, asked, held in (("new", None, DEFAULT_WINDOW), ("old", WINDOW, WINDOW)):
        path = tmp_path / f"{name}.parquet"
        with writer(path, asked) as first:
            add(first, row("a.mp4"))
            first.flush()  # parts alone, as a run that was stopped leaves them
        with writer(path, None) as second:
            assert second.window == held
            second.finish()
        with writer(path, None) as third:
            assert third.window == held
            third.finish()
        with open_library(path) as library:
            assert window_of(library) == held


def test_a_library_from_before_window_lengths_were_noted_is_taken(tmp_path: Path) -> None:
    table = pq.read_table(_library(tmp_path))
    metadata = {key: value for key, value in table.schema.metadata.items() if key != b"peav.window"}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "lib.parquet")
    with writer(tmp_path / "lib.parquet", 10.0) as library:
        assert library.has(("a.mp4", 10, 5))


def test_a_killed_run_goes_on_within_a_file_and_a_changed_file_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "lib.parquet"
    first = writer(path)
    add(first, row("a.mp4"))
    for start in (0.0, 60.0):  # in the order in which their batches came
        first.add(row("b.mp4", start))
        first.add(row("c.mp4", start))
    first.flush()
    first.add(row("b.mp4", 30.0))  # lost
    first.lock.release()
    second = writer(path)
    b, c = ("b.mp4", 10, 5), ("c.mp4", 10, 5)
    assert (second.has(("a.mp4", 10, 5)), second.has(b), second.has(c)) == (True, False, False)
    assert second.starts(b) == second.starts(c) == {0.0, 60.0}
    assert second.starts(("c.mp4", 11, 5)) == frozenset()
    add(second, row("b.mp4", 30.0))
    add(second, row("c.mp4", size=11))
    second.close()
    third = writer(path)
    assert third.has(b)
    assert third.has(("c.mp4", 11, 5))
    assert third.finish() == 5
    table = pq.read_table(path).to_pylist()
    assert sorted((entry["path"], entry["start"], entry["size"]) for entry in table) == [
        ("a.mp4", 0.0, 10),
        ("b.mp4", 0.0, 10),
        ("b.mp4", 30.0, 10),
        ("b.mp4", 60.0, 10),
        ("c.mp4", 0.0, 11),
    ]


def test_a_file_that_was_complete_but_for_the_mark_needs_no_new_window(tmp_path: Path) -> None:
    path = tmp_path / "lib.parquet"
    first = writer(path)
    first.add(row("a.mp4"))
    first.close()
    second = writer(path)
    second.complete(("a.mp4", 10, 5))
    second.close()
    third = writer(path)
    assert third.has(("a.mp4", 10, 5))
    assert third.finish() == 1


def test_a_file_that_broke_half_way_leaves_nothing_and_keeps_its_old_rows(tmp_path: Path) -> None:
    path = tmp_path / "lib.parquet"
    write(path, [row("a.mp4")])
    library = writer(path)
    library.add(row("a.mp4", size=11))
    library.add(row("b.mp4"))
    assert library.finish() == 1
    assert pq.read_table(path)["size"].to_pylist() == [10]


def test_a_process_killed_between_merging_and_removing_the_parts_doubles_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lib.parquet"
    library = writer(path)
    add(library, row("a.mp4"), row("a.mp4", 30.0))
    library.flush()
    parts = {part.name: part.read_bytes() for part in library.parts.glob("*.parquet")}
    library.finish()
    library.parts.mkdir()
    for name, data in parts.items():
        (library.parts / name).write_bytes(data)
    again = writer(path)
    add(again, row("b.mp4"))
    assert again.finish() == 3
    assert pq.read_table(path)["path"].to_pylist() == ["a.mp4", "a.mp4", "b.mp4"]


def test_a_library_with_lists_of_a_fixed_length_is_taken(tmp_path: Path) -> None:
    """As all were written once; pyarrow before 26 reads those of them that have no nulls."""
    sound = [row("b.wav", modality="audio", seed=1)] if int(pa.__version__.split(".")[0]) >= 26 else []
    write(tmp_path / "lib.parquet", [row("a.mp4"), *sound])
    table = pq.read_table(tmp_path / "lib.parquet")
    for space in MODALITIES:
        values = pa.array(table[space].to_pylist(), pa.list_(pa.float32(), DIM))
        table = table.set_column(table.schema.get_field_index(space), space, values)
    pq.write_table(table, tmp_path / "lib.parquet")
    assert write(tmp_path / "lib.parquet", [row("c.wav", modality="audio", seed=2)]) == 2 + len(sound)
    vector = Vector(row("a.mp4").embeddings["audio"], cosine=True)
    hits = search(tmp_path / "lib.parquet", Query({"audio": vector}), MODEL)
    assert (hits[0].path, len(hits)) == ("a.mp4", 2 + len(sound))


HOLD = """
import sys
from pathlib import Path
from peav.search import LibraryWriter
with LibraryWriter(Path(sys.argv[1]), 6, "0123456789abcdef", "a model", 30.0):
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_second_process_is_refused_until_the_first_has_ended_or_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "lib.parquet"
    with writer(path) as before:
        add(before, row("a.mp4"))
        before.flush()
    for end in (signal.SIGKILL, None):
        command = [sys.executable, "-c", HOLD, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "writing\n"
            for resume in (True, False):
                with pytest.raises(LibraryError, match="another process is writing to it"):
                    writer(path, resume=resume)
            if end is not None:
                other.send_signal(end)
            other.communicate()
        with writer(path) as library:
            assert library.has(("a.mp4", 10, 5))
    assert writer(path).finish() == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["lib.parquet"]


def test_nothing_a_killed_writer_left_among_the_parts_outlives_the_library(tmp_path: Path) -> None:
    path = tmp_path / "lib.parquet"
    with writer(path) as library:
        (library.parts / ".000000.parquet.half.tmp").write_text("half")
        add(library, row("a.mp4"))
        assert library.finish() == 1
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_library_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="peav embed"):
        open_library(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(LibraryError, match="not a Parquet file"):
        open_library(tmp_path / "text.parquet")
    pq.write_table(pq.read_table(_library(tmp_path)).replace_schema_metadata(None), tmp_path / "other.parquet")
    with pytest.raises(LibraryError, match="not a library"):
        open_library(tmp_path / "other.parquet")
    open_library(tmp_path / "lib.parquet").close()


def _library(folder: Path) -> Path:
    write(folder / "lib.parquet", [row("a.mp4")])
    return folder / "lib.parquet"


@settings(max_examples=20, deadline=None)
@given(data=st.data(), count=st.integers(1, 40), top=st.integers(1, 12))
def test_search_equals_sorting_everything(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, count: int, top: int
) -> None:
    modalities = data.draw(st.lists(st.sampled_from(("audio", "video", "audio_video")), min_size=count, max_size=count))
    rows = [row(f"{i:03d}", seed=i, modality=modality) for i, modality in enumerate(modalities)]
    path = tmp_path_factory.mktemp("search") / "lib.parquet"
    write(path, rows)
    rng = np.random.default_rng(count)
    vectors = {
        space: Vector(rng.normal(size=DIM).astype(np.float32), scale=3.0, bias=bias)
        for space, bias in (("audio", 0.0), ("video", 1.0), ("audio_video", -1.0))
    }
    naive = [
        (3.0 * r.embeddings[r.modality] @ vectors[r.modality].values + vectors[r.modality].bias, r.path) for r in rows
    ]
    hits = search(path, Query(vectors), MODEL, top)  # type: ignore[arg-type]
    assert [hit.path for hit in hits] == [name for _, name in sorted(naive, reverse=True)[:top]]
    assert np.allclose(
        [hit.score for hit in hits], [score for score, _ in sorted(naive, reverse=True)[:top]], atol=1e-4
    )


def test_one_space_takes_every_window_that_has_it(tmp_path: Path) -> None:
    rows = [row("a", modality="audio"), row("v", modality="video", seed=1), row("av", seed=2)]
    write(tmp_path / "lib.parquet", rows)
    vector = Vector(rows[2].embeddings["audio"], cosine=True)
    hits = search(tmp_path / "lib.parquet", Query({"audio": vector}), MODEL)
    assert [hit.path for hit in hits] == ["av", "a"]
    assert hits[0].score == pytest.approx(1.0)


def test_a_space_that_nothing_has_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "lib.parquet", [row("a", modality="audio")])
    with pytest.raises(LibraryError, match="video"):
        search(tmp_path / "lib.parquet", Query({"video": Vector(np.ones(DIM, np.float32))}), MODEL)
