"""A run of the engine: every clip ends once, nothing is asked twice, and any death costs what was in hand."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from media.make import tone, write_audio
from runs import STUB, asked, here, line, recipe, shards

from peav.data.manifest import read_manifest
from peav.data.places import read_clips
from peav.engine.run import Summary, caption, held, retry
from peav.engine.work import Progress
from peav.errors import ManifestError


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "clips.jsonl"
    path.write_text("".join(json.dumps(line(i)) + "\n" for i in range(12)))
    return path


def test_the_output_is_a_manifest_that_keeps_the_weak_captions(manifest: Path, tmp_path: Path) -> None:
    summary = caption(str(manifest), tmp_path / "out", recipe(tmp_path / "log"), runner=here)
    assert (summary.done, summary.filtered, summary.failed, summary.partitions) == (12, 0, 0, 3)
    paths = sorted((tmp_path / "out" / "shards").glob("*.parquet"))
    rows = [row for path in paths for row in read_manifest(path)]
    assert [row.id for row in rows] == [f"c{i:02d}" for i in range(12)]
    assert rows[3].audio_path == tmp_path / "3.wav"
    assert rows[3].synthetic == {"audio": ['["first 1 of c03", "second 1 of c03"]']}
    assert (rows[3].extra["label"], rows[3].split) == ("dog", "train")
    weak = pq.read_table(paths[0])["weak"].to_pylist()[3]
    assert [(one["captioner"], one["text"], one["model"]) for one in weak] == [
        ("first", "first 1 of c03", "stub 1"), ("second", "second 1 of c03", "stub 1")]  # fmt: skip


def test_a_second_run_asks_nothing_and_changes_nothing(manifest: Path, tmp_path: Path) -> None:
    first = caption(str(manifest), tmp_path / "out", recipe(tmp_path / "log"), runner=here)
    assert len(asked(tmp_path / "log")) == sum(first.asked.values()) == 36
    before = shards(tmp_path / "out")
    second = caption(str(manifest), tmp_path / "out", recipe(tmp_path / "log"), runner=here)
    assert (second.done, sum(second.asked.values()), sum(second.known.values())) == (12, 0, 0)
    assert shards(tmp_path / "out") == before
    assert len(asked(tmp_path / "log")) == 36


def test_progress_counts_the_rows_that_each_step_has_to_do(manifest: Path, tmp_path: Path) -> None:
    with manifest.open("a") as file:  # two clips of one row
        file.write(json.dumps({"id": "long", "audio_path": "long.wav", "duration": 40.0}) + "\n")
    seen: dict[str, list[float]] = {}

    def count(step: str, done: Progress, total: int) -> None:
        seen.setdefault(step, [total, 0.0])[1] += done.rows

    caption(str(manifest), tmp_path / "out", recipe(tmp_path / "log"), runner=here, progress=count)
    assert seen == {step: [13, 13.0] for step in ("caption", "rewrite", "write")}


def test_a_changed_prompt_asks_that_stage_alone_again(manifest: Path, tmp_path: Path) -> None:
    caption(str(manifest), tmp_path / "out", recipe(tmp_path / "log"), runner=here)
    again = caption(str(manifest), tmp_path / "out", recipe(tmp_path / "log", final={"version": 2}), runner=here)
    assert again.asked == {"final": 12}
    # What comes after a changed step is asked again where its own request changed.
    third = caption(str(manifest), tmp_path / "out", recipe(tmp_path / "log", first={"version": 2}), runner=here)
    assert third.asked == {"first": 12, "final": 12}


def test_a_bar_that_is_moved_measures_nothing_again_and_ends_clips_anew(tmp_path: Path) -> None:
    for number in range(2):
        write_audio(tmp_path / f"{number}.wav", tone(0.5, seed=number) * (0.01 if number else 1.0))
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(line(i)) + "\n" for i in range(2)))
    ends = []
    for bar in (-100.0, -30.0):
        wanted = recipe(tmp_path / "log", filters=[{"class": "silence", "min_db": bar}])
        ends.append(caption(str(tmp_path / "clips.jsonl"), tmp_path / "out", wanted, runner=here))
    assert [(end.done, end.filtered, end.asked["silence"]) for end in ends] == [(2, 0, 2), (1, 1, 0)]


def test_a_manifest_that_grew_keeps_its_finished_partitions(manifest: Path, tmp_path: Path) -> None:
    caption(str(manifest), tmp_path / "out", recipe(tmp_path / "log"), runner=here)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "shards").glob("*")}
    with manifest.open("a") as file:
        file.writelines(json.dumps(line(i)) + "\n" for i in range(12, 16))
    grown = caption(str(manifest), tmp_path / "out", recipe(tmp_path / "log"), runner=here)
    assert (grown.done, grown.asked) == (16, {"first": 4, "second": 4, "final": 4})
    kept = [path.name for path, at in before.items() if path.stat().st_mtime_ns == at]
    assert sorted(kept) == ["00000.parquet", "00001.parquet"]


def test_several_places_are_captioned_as_one_after_the_other(manifest: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    caption(str(manifest), whole, recipe(tmp_path / "log"), runner=here)
    lines = manifest.read_text().splitlines(keepends=True)
    parts = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    parts[0].write_text("".join(lines[:7]))
    parts[1].write_text("".join(lines[7:]))
    out = tmp_path / "out"
    places = [str(path) for path in parts]
    assert caption(places, out, recipe(tmp_path / "log"), runner=here).done == 12
    assert shards(out) == shards(whole)
    assert held(out)[0] == places
    with pytest.raises(ManifestError, match=r"a.jsonl: id 'c00' stands twice; give each clip its own id"):
        caption([str(manifest), places[0]], out, recipe(tmp_path / "log"), runner=here)


def test_a_row_that_fails_is_one_line_and_is_retried_on_demand(manifest: Path, tmp_path: Path) -> None:
    bad = recipe(tmp_path / "log", second={"raise_on": ["c04"]})
    summary = caption(str(manifest), tmp_path / "out", bad, runner=here)
    assert (summary.done, summary.failed) == (11, 1)
    (failed,) = [json.loads(one) for one in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert (failed["id"], failed["stage"], failed["error"]) == ("c04", "second", "RuntimeError")
    assert failed["reason"] == "cannot do c04"
    assert sum(caption(str(manifest), tmp_path / "out", bad, runner=here).asked.values()) == 0
    assert retry(tmp_path / "out") == 1
    mended = caption(str(manifest), tmp_path / "out", recipe(tmp_path / "log"), runner=here)
    assert (mended.done, mended.asked) == (12, {"second": 1, "final": 1})
    assert not (tmp_path / "out" / "failures.jsonl").exists()


@pytest.mark.slow
def test_a_row_that_kills_its_worker_costs_itself_alone(manifest: Path, tmp_path: Path) -> None:
    poison = recipe(tmp_path / "log", second={"die_on": ["c06"]})
    summary = caption(str(manifest), tmp_path / "out", poison, workers=2)
    assert (summary.done, summary.failed) == (11, 1)
    (failed,) = [json.loads(one) for one in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert (failed["id"], failed["stage"], failed["error"]) == ("c06", "second", "WorkerDiedError")
    assert not list((tmp_path / "out").rglob("*.hand"))


def test_a_file_that_cannot_be_decoded_fails_alone(tmp_path: Path) -> None:
    for number in range(3):
        write_audio(tmp_path / f"{number}.wav", tone(0.2, seed=number))
    (tmp_path / "1.wav").write_bytes(b"no sound")
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(line(i)) + "\n" for i in range(4)))
    wanted = recipe(tmp_path / "log", first={"class": f"{STUB}:Listens"})
    summary = caption(str(tmp_path / "clips.jsonl"), tmp_path / "out", wanted, runner=here)
    failed = [json.loads(one) for one in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert [(one["id"], one["stage"], one["error"]) for one in failed] == [
        ("c01", "decode", "NotMediaError"), ("c03", "decode", "MissingFileError")]  # fmt: skip
    assert (summary.done, summary.asked["first"]) == (2, 2)


@pytest.mark.slow
def test_two_runs_write_the_same_bytes(manifest: Path, tmp_path: Path) -> None:
    caption(str(manifest), tmp_path / "one", recipe(tmp_path / "log"), workers=1)
    caption(str(manifest), tmp_path / "two", recipe(tmp_path / "log", first={"slow": 0.01}), workers=2)
    assert shards(tmp_path / "one") == shards(tmp_path / "two")
    assert len(shards(tmp_path / "one")) == 3


def test_a_summary_tells_what_was_asked(manifest: Path, tmp_path: Path) -> None:
    summary = caption(str(manifest), tmp_path / "out", recipe(tmp_path / "log"), runner=here, limit=7)
    assert isinstance(summary, Summary)
    assert summary.as_json()["asked"] == {"first": 7, "second": 7, "final": 7}


def test_a_folder_of_media_of_recordings_or_of_an_earlier_run_is_a_place(tmp_path: Path) -> None:
    media = tmp_path / "media"
    (media / "inner").mkdir(parents=True)
    for name in ("b.wav", "inner/a.wav"):
        write_audio(media / name, tone(0.2))
    steps = recipe(tmp_path / "log")
    assert caption(str(media), tmp_path / "out", steps, runner=here).done == 2
    assert [row.id for row in read_clips(str(tmp_path / "out"))] == ["b.wav", "inner/a.wav"]
    assert caption(str(tmp_path / "out"), tmp_path / "next", steps, runner=here).done == 2
    (media / "manifest.jsonl").write_text('{"id": "one", "path": "b.wav"}\n')
    assert caption(str(media), tmp_path / "third", steps, runner=here).done == 1
