"""A library follows its files: what it holds is said, what has gone leaves, what moved is known without embedding."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from peav.cli.main import app
from peav.errors import LibraryError
from peav.jobs import Ledger, version_of
from peav.search import LibraryRow, LibraryWriter
from peav.search.manage import library_files, library_info, remove_files, sync_files

DIM, MODEL = 4, "0123456789abcdef"


def peav(*args: object) -> Result:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Six files in two folders, of sizes of their own; what is in them does not matter here."""
    for number, name in enumerate(("a.wav", "b.wav", "c.mp4", "deep/d.wav", "deep/e.wav", "deep2/f.wav")):
        path = tmp_path / "media" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(100 + number))
        os.utime(path, ns=(number, 10**18 + number))
    return tmp_path / "media"


@pytest.fixture
def library(media: Path, tmp_path: Path) -> Path:
    """Two windows of each."""
    path, rng = tmp_path / "lib.parquet", np.random.default_rng(0)
    with LibraryWriter(path, DIM, MODEL, "a model", 2.0) as writer:
        for file in sorted(media.rglob("*.*")):
            version = version_of(file)
            for start in (0.0, 2.0):
                embedding = {"audio": rng.standard_normal(DIM).astype(np.float32)}
                writer.add(LibraryRow(version[0], "audio", start, start + 2, 3.5, *version[1:], embedding))
            writer.complete(version)
        writer.finish()
    return path


def rows(library: Path) -> list[dict]:
    return pq.read_table(library).to_pylist()


def test_what_it_holds_is_said(library: Path, media: Path) -> None:
    (media / "a.wav").unlink()
    (media / "b.wav").write_bytes(b"other")
    facts = library_info(library)
    assert (facts["model"], facts["window"], facts["files"], facts["windows"]) == ("a model", 2.0, 6, 12)
    assert facts["state"] == {"there": 4, "changed": 1, "gone": 1}
    assert facts["hours"] == pytest.approx(6 * 3.5 / 3600, abs=1e-4)
    assert json.loads(peav("library", "info", library, "--json").stdout) == facts
    assert "4 there, 1 changed, 1 gone; 0 failed" in peav("library", "info", library).stdout


def test_files_are_listed_with_their_state_for_people_and_programs(library: Path, media: Path) -> None:
    (media / "c.mp4").unlink()
    expected = [
        {"path": str(file), "modality": "audio", "duration": 3.5, "windows": 2, "state": "there"}
        for file in sorted(media.rglob("*.*"))
    ]
    gone = {"path": str(media / "c.mp4"), "modality": "audio", "duration": 3.5, "windows": 2, "state": "gone"}
    found = json.loads(peav("library", "list", library, "--json").stdout)
    assert sorted(found, key=lambda row: row["path"]) == sorted([*expected, gone], key=lambda row: row["path"])
    assert json.loads(peav("library", "list", library, "--gone", "--json").stdout) == [gone]
    lines = list(csv.DictReader(io.StringIO(peav("library", "list", library, "--csv").stdout)))
    assert [line["path"] for line in lines] == [row["path"] for row in found]
    assert str(media / "c.mp4") in peav("library", "list", library).stdout


def test_files_and_folders_are_taken_out_and_the_rest_stays_to_the_bit(library: Path, media: Path) -> None:
    before, metadata = rows(library), pq.read_schema(library).metadata
    assert "3 files taken out" in peav("library", "remove", library, media / "b.wav", media / "deep").stdout
    left = [row for row in before if Path(row["path"]).name in ("a.wav", "c.mp4", "f.wav")]
    assert rows(library) == left
    assert pq.read_schema(library).metadata == metadata
    assert library_info(library)["model_id"] == MODEL
    with pytest.raises(LibraryError, match="has no file"):
        remove_files(library, [media / "de"])
    assert rows(library) == left


def test_what_has_gone_leaves_and_what_moved_keeps_its_embeddings(library: Path, media: Path) -> None:
    before = {row["path"]: row["audio"] for row in rows(library)}
    (media / "new").mkdir()
    (media / "deep" / "d.wav").rename(media / "new" / "renamed.wav")
    (media / "a.wav").unlink()
    assert sync_files(library, [media]) == {"moved": 1, "removed": 1, "kept": 4}
    after = {row["path"]: row["audio"] for row in rows(library)}
    expected = {k: v for k, v in before.items() if k not in (str(media / "a.wav"), str(media / "deep" / "d.wav"))}
    assert after == expected | {str(media / "new" / "renamed.wav"): before[str(media / "deep" / "d.wav")]}
    assert {file.state for file in library_files(library)} == {"there"}
    with LibraryWriter(library, DIM, MODEL, "a model", 2.0) as writer:  # so `peav embed` has nothing to do
        assert all(writer.has(version_of(Path(path))) for path in after)
    assert sync_files(library, [media]) == {"moved": 0, "removed": 0, "kept": 5}


def test_what_may_be_either_of_two_files_is_not_guessed(library: Path, media: Path) -> None:
    (media / "a.wav").rename(media / "a1.wav")
    (media / "a2.wav").write_bytes((media / "a1.wav").read_bytes())
    os.utime(media / "a2.wav", ns=(0, (media / "a1.wav").stat().st_mtime_ns))
    assert sync_files(library, [media]) == {"moved": 0, "removed": 1, "kept": 5}


def test_without_a_folder_what_has_gone_leaves(library: Path, media: Path) -> None:
    (media / "a.wav").rename(media / "a1.wav")
    assert "0 files moved, 1 have gone and left, 5 are where they were" in peav("library", "sync", library).stdout


def test_failures_are_listed_but_for_those_that_were_done_since(library: Path, media: Path) -> None:
    ledger = Ledger(library.with_name("failures.jsonl"), {"library": library.name})
    ledger.fail(("/gone/x.mp4", 1, 1), ValueError("broken"))
    ledger.fail((str(media / "a.wav"), 1, 1), ValueError("was broken"))
    Ledger(library.with_name("failures.jsonl"), {"library": "other.parquet"}).fail(("/y.mp4", 1, 1), ValueError("no"))
    listed = json.loads(peav("library", "list", library, "--failed", "--json").stdout)
    assert listed == [{"path": "/gone/x.mp4", "error": "ValueError", "reason": "broken"}]
    assert library_info(library)["failed"] == 1


def test_a_library_that_is_being_written_or_unfinished_is_left_alone(library: Path, media: Path) -> None:
    before = library.read_bytes()
    with LibraryWriter(library, DIM, MODEL, "a model", 2.0) as writer:
        with pytest.raises(LibraryError, match="another process is writing"):
            sync_files(library)
        embedding = {"audio": np.zeros(DIM, np.float32)}
        writer.add(LibraryRow("/new.wav", "audio", 0.0, 2.0, 3.5, 1, 1, embedding))
    with pytest.raises(LibraryError, match="an unfinished `peav embed` waits in it"):
        remove_files(library, [media / "a.wav"])
    assert library.read_bytes() == before
