"""What is decided of a run as a whole stands when it goes on, whatever became of its manifest, disk and rows."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq
import pytest
from runs import here, line, recipe, shards
from stub import Stub

from peav.data.manifest import read_manifest
from peav.engine.clip import Answer, Clip, Sample
from peav.engine.recipe import EngineRecipe
from peav.engine.run import EngineError, caption, retry
from peav.engine.stage import Stage

THIS = Path(__file__)


@dataclass
class Hash(Stage):
    """Clips of the same label have the same hash."""

    journaled: ClassVar[bool] = False

    def __call__(self, batch: Sequence[Sample]) -> Iterator[tuple[int, Answer | Exception]]:
        for place, sample in enumerate(batch):
            yield place, Answer({"audio": f"{sample.clip.row.extra['label']:064x}"})

    def apply(self, clip: Clip, value: Any) -> None:
        clip.measures["hashes"] = value


@dataclass
class Score(Stage):
    """The score of a clip is its label."""

    def request(self, clip: Clip) -> Any:
        return clip.row.extra["label"]

    def __call__(self, batch: Sequence[Sample]) -> Iterator[tuple[int, Answer | Exception]]:
        for place, sample in enumerate(batch):
            yield place, Answer(float(sample.clip.row.extra["label"]))

    def apply(self, clip: Clip, value: Any) -> None:
        clip.weak = {name: replace(weak, score=value) for name, weak in clip.weak.items()}


@dataclass
class Picky(Stub):
    """Cannot use what it says of one clip, and cannot say what it would ask about another."""

    def request(self, clip: Clip) -> Any:
        if clip.id == "c02":
            raise LookupError("no\nrequest")
        return {"id": clip.id}

    def apply(self, clip: Clip, value: Any) -> None:
        if clip.id == "c04":
            raise TypeError("no answer of mine")
        super().apply(clip, value)


def write(manifest: Path, lines: Sequence[tuple[str, int]]) -> None:
    """Ids and labels."""
    given = [{**line(0), "id": identity, "label": label} for identity, label in lines]
    manifest.write_text("".join(json.dumps(one) + "\n" for one in given))


def decided(log: Path) -> EngineRecipe:
    return recipe(log, filters=[f"{THIS}:Hash"], score={"class": f"{THIS}:Score"}, duplicates={"cosine": None,
                  "distance": 0})  # fmt: skip


def failed(out: Path) -> list[tuple[str, str, str, str]]:
    lines = map(json.loads, (out / "failures.jsonl").read_text().splitlines())
    return [(one["id"], one["stage"], one["error"], one["reason"]) for one in lines]


def decisions(out: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in (out / "decisions").iterdir()}


def test_a_manifest_that_grew_keeps_its_fit_and_the_clips_that_it_kept(tmp_path: Path) -> None:
    manifest, out = tmp_path / "clips.jsonl", tmp_path / "out"
    first = [(f"c{i}", 10 * i) for i in range(5)]
    write(manifest, first)
    caption(str(manifest), out, decided(tmp_path / "log"), runner=here)
    shard, fit = shards(out)["00000.parquet"], decisions(out)["fit"]
    write(manifest, [*first, ("a-before-all", 30), *((f"d{i}", 1000 + 10 * i) for i in range(5))])
    grown = caption(str(manifest), out, decided(tmp_path / "log"), runner=here)
    assert (grown.done, grown.filtered, grown.asked["first"]) == (10, 1, 6)
    assert shards(out)["00000.parquet"] == shard
    assert decisions(out)["fit"] == fit
    assert decisions(out)["duplicates"]["clips"]["a-before-all"] == "c3"
    weak = [clip["weak"][0] for clip in pq.read_table(out / "shards" / "00001.parquet").to_pylist()]
    assert {one["confidence"] for one in weak} == {"high"}  # beside those of the first run


def test_a_manifest_that_shrank_leaves_no_clip_behind(tmp_path: Path) -> None:
    manifest, out = tmp_path / "clips.jsonl", tmp_path / "out"
    for count in (12, 7):
        write(manifest, [(f"c{i:02d}", i) for i in range(count)])
        summary = caption(str(manifest), out, recipe(tmp_path / "log"), runner=here)
        rows = [row.id for path in sorted((out / "shards").glob("*")) for row in read_manifest(path)]
        assert rows == [f"c{i:02d}" for i in range(count)]
    assert summary.asked == {}


def test_a_captioner_that_failed_for_all_clips_is_fitted_when_they_are_retried(tmp_path: Path) -> None:
    manifest, out = tmp_path / "clips.jsonl", tmp_path / "out"
    clips = [(f"c{i}", i) for i in range(6)]
    write(manifest, clips)
    broken = recipe(tmp_path / "log", second={"raise_on": [name for name, _ in clips]}, score=f"{THIS}:Score")
    assert caption(str(manifest), out, broken, runner=here).failed == 6
    assert retry(out) == 6
    mended = caption(str(manifest), out, recipe(tmp_path / "log", score=f"{THIS}:Score"), runner=here)
    assert (mended.done, mended.failed) == (6, 0)
    assert sorted(decisions(out)["fit"]["captioners"]) == ["first", "second"]


@pytest.mark.slow
def test_one_run_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    manifest, out = tmp_path / "clips.jsonl", tmp_path / "out"
    write(manifest, [("c1", 1)])
    refused = []

    def meanwhile(*_: object) -> None:
        tries: list[Callable[[], object]] = [
            lambda: caption(str(manifest), out, recipe(tmp_path / "log"), runner=here), lambda: retry(out)]  # fmt: skip
        for again in tries:
            with pytest.raises(EngineError, match="another peav caption is writing here"):
                again()
            refused.append(again)

    caption(str(manifest), out, recipe(tmp_path / "log"), runner=here, progress=meanwhile)
    assert refused
    assert not (out / "lock.run").exists()


def test_what_a_stage_makes_of_one_clip_costs_that_clip_alone(tmp_path: Path) -> None:
    manifest, out = tmp_path / "clips.jsonl", tmp_path / "out"
    write(manifest, [(f"c{i:02d}", i) for i in range(7)])
    picky = recipe(tmp_path / "log", second={"class": f"{THIS}:Picky"})
    wrong = [("c02", "second", "LookupError", "no request"), ("c04", "second", "TypeError", "no answer of mine")]
    for _ in range(2):
        summary = caption(str(manifest), out, picky, runner=here)
        assert (summary.done, summary.failed) == (5, 2)
        assert failed(out) == wrong
    assert retry(out) == 2
    assert caption(str(manifest), out, recipe(tmp_path / "log"), runner=here).done == 7


def test_columns_of_a_manifest_that_no_parquet_file_takes_stand_as_json(tmp_path: Path) -> None:
    manifest, out = tmp_path / "clips.jsonl", tmp_path / "out"
    odd = {"mixed": [1, "two", None], "large": [1 << 70, 1, 1], "empty": [{}, {}, {}], "half": ["\ud83d", "", ""]}
    lines = [{**line(i), **{name: values[i] for name, values in odd.items()}} for i in range(3)]
    manifest.write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert caption(str(manifest), out, recipe(tmp_path / "log"), runner=here).done == 3
    rows = pq.read_table(out / "shards" / "00000.parquet").to_pylist()
    assert {name: [json.loads(row[name]) for row in rows] for name in odd} == odd


@pytest.mark.parametrize("room", [300, 700, 1500, 3000])
def test_a_full_disk_is_one_clear_line_and_the_run_goes_on_once_there_is_room(tmp_path: Path, room: int) -> None:
    manifest, out, log = tmp_path / "clips.jsonl", tmp_path / "out", tmp_path / "log"
    write(manifest, [(f"c{i:02d}", i) for i in range(12)])
    peace = tmp_path / "peace"
    caption(str(manifest), peace, recipe(log), runner=here)
    log.unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(OSError, match="make room there and run the same command again"):
            caption(str(manifest), out, recipe(log), runner=here)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    summary = caption(str(manifest), out, recipe(log), runner=here)
    assert (summary.done, summary.failed) == (12, 0)
    assert len(log.read_text().splitlines()) <= 36 + 1  # the one that there was no room to keep
    assert shards(out) == shards(peace)


def test_files_and_rows_that_change_while_a_run_is_at_work_are_done_by_the_next(tmp_path: Path) -> None:
    manifest, out = tmp_path / "clips.jsonl", tmp_path / "out"
    write(manifest, [(f"c{i:02d}", i) for i in range(7)])
    sound = tmp_path / "0.wav"
    seen = []

    def meanwhile(step: str, *_: object) -> None:
        if step not in seen:
            seen.append(step)
            sound.write_bytes(b"x" * len(seen))
            write(manifest, [(f"c{i:02d}", i) for i in range(7 + len(seen))])

    summary = caption(str(manifest), out, recipe(tmp_path / "log"), runner=here, progress=meanwhile)
    assert (summary.done, seen) == (7, ["caption", "rewrite", "write"])
    following = caption(str(manifest), out, recipe(tmp_path / "log"), runner=here)
    assert (following.done, following.asked["first"]) == (10, 3)
