"""The library on disk: what is written is what is read, nothing is lost, nothing is doubled; search is exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peav.search import LibraryError, LibraryWriter, Query, Row, is_library, search
from peav.search.library import open_library
from peav.search.query import Vector

DIM, MODEL = 6, "0123456789abcdef"


def row(path: str, start: float = 0.0, *, seed: int = 0, modality: str = "audio_video", size: int = 10) -> Row:
    rng = np.random.default_rng([seed, int(start)])
    spaces = ("audio", "video", "audio_video") if modality == "audio_video" else (modality,)
    embeddings = {space: rng.normal(size=DIM).astype(np.float32) for space in spaces}
    return Row(path, modality, start, start + 30, 60.0, size, 5, embeddings)


def writer(path: Path, **settings: bool) -> LibraryWriter:
    return LibraryWriter(path, DIM, MODEL, "a model", **settings)


def write(path: Path, rows: list[Row]) -> int:
    library = writer(path)
    for entry in rows:
        library.add([entry])
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


def test_a_killed_run_loses_only_the_part_being_filled(tmp_path: Path) -> None:
    first = writer(tmp_path / "lib.parquet")
    first.add([row("a.mp4"), row("a.mp4", 30.0)])
    first.flush()
    first.add([row("b.mp4")])  # collected, not yet written, when the process dies
    with pytest.raises(LibraryError, match="run the same `peav embed` again"):
        open_library(tmp_path / "lib.parquet")
    second = writer(tmp_path / "lib.parquet")
    assert second.has("a.mp4", 10, 5)
    assert not second.has("b.mp4", 10, 5)
    second.add([row("b.mp4")])
    assert second.finish() == 3


def test_a_changed_file_replaces_its_old_rows_and_no_others(tmp_path: Path) -> None:
    write(tmp_path / "lib.parquet", [row("a.mp4"), row("a.mp4", 30.0), row("b.mp4")])
    again = writer(tmp_path / "lib.parquet")
    assert not again.has("a.mp4", 99, 5)
    again.add([row("a.mp4", size=99, seed=7)])
    assert again.finish() == 2
    table = pq.read_table(tmp_path / "lib.parquet").to_pylist()
    assert sorted((entry["path"], entry["size"]) for entry in table) == [("a.mp4", 99), ("b.mp4", 10)]


def test_a_file_that_changed_between_two_parts_counts_once(tmp_path: Path) -> None:
    library = writer(tmp_path / "lib.parquet")
    for size in (1, 2, 3):
        library.add([row("a.mp4", size=size)])
        library.flush()
    assert library.finish() == 1
    assert pq.read_table(tmp_path / "lib.parquet")["size"].to_pylist() == [3]


def test_without_resume_the_library_starts_anew(tmp_path: Path) -> None:
    write(tmp_path / "lib.parquet", [row("a.mp4")])
    anew = writer(tmp_path / "lib.parquet", resume=False)
    assert not anew.has("a.mp4", 10, 5)
    anew.add([row("b.mp4")])
    assert anew.finish() == 1


def test_another_models_library_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lib.parquet"
    write(path, [row("a.mp4")])
    query = Query({"audio": Vector(np.ones(DIM, np.float32))})
    with pytest.raises(LibraryError, match="made by model 'a model'"):
        search(path, query, "another")
    with pytest.raises(LibraryError, match="made by model 'a model'"):
        LibraryWriter(path, DIM, "another", "another model")


def test_what_is_no_library_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="peav embed"):
        open_library(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(LibraryError, match="not a Parquet file"):
        open_library(tmp_path / "text.parquet")
    pq.write_table(pq.read_table(_library(tmp_path)).replace_schema_metadata(None), tmp_path / "other.parquet")
    with pytest.raises(LibraryError, match="not a library"):
        open_library(tmp_path / "other.parquet")
    assert is_library(tmp_path / "lib.parquet")
    assert not is_library(tmp_path / "other.parquet")


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
