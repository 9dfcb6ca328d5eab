"""The report of a run: what was made of every clip and what it took, whatever its texts are and however many."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runs import STUB, here, recipe

from peav.engine import report as reports
from peav.engine.recipe import EngineRecipe
from peav.engine.report import Lowest, Often, read_report
from peav.engine.report_page import page
from peav.engine.run import EngineError, caption

EVIL = '<script>alert(1)</script>\u202e & "quoted" dog\'s'
CLIPS = 12


def stubs(folder: Path, **changes: Any) -> EngineRecipe:
    """All that a report tells of: a filter, a failure, scores, and a rewriter whose caption of c02 is refused twice."""
    return recipe(
        folder / "log",
        filters=[{"class": f"{STUB}:Drops", "name": "drops", "ids": ["c01", "c05", "c07"]}],
        first={"slow": 0.002},
        second={"raise_on": ["c04"]},
        score={"class": f"{STUB}:Scores", "name": "scores"},
        final={"class": f"{STUB}:Invents", "invents": ["c02"], "input_price": 2.0, "output_price": 4.0},
        **changes,
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run whose clips' files are not there, and whose labels are as bad as they come."""
    lines = [
        {"id": f"c{i:02d}", "audio_path": f"{EVIL}{i}.wav", "duration": 1.0, "license": EVIL, "caption": EVIL}
        for i in range(CLIPS)
    ]  # fmt: skip
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    caption(str(tmp_path / "clips.jsonl"), tmp_path / "out", stubs(tmp_path), runner=here)
    return tmp_path / "out"


def test_every_clip_is_counted_once_by_how_it_ended(out: Path) -> None:
    found = read_report(out).as_json()
    assert (found["done"], found["filtered"], found["failed"], found["fallback"]) == (8, 3, 1, 1)
    assert found["filtered_by"] == {"drops": 3}
    assert found["failed_by"] == {"second: RuntimeError": 1}
    assert found["written_by"] == {"audio by rewriter": 7, "audio by template": 1}
    assert found["partitions"] == 3


def test_costs_are_those_of_the_journals_at_the_prices_of_the_recipe(out: Path) -> None:
    costs = read_report(out).as_json()["costs"]
    assert {name: (own["answers"], own["requests"], own["failed"]) for name, own in costs.items()} == {
        "drops": (12, 12, 0), "first": (9, 9, 0), "second": (9, 9, 1), "scores": (8, 8, 0),
        "final": (8, 10, 0), "final again": (1, 3, 0)}  # fmt: skip
    assert costs["final"]["dollars"] == pytest.approx((8 * 500 * 2 + 8 * 50 * 4) / 1e6)
    assert costs["final again"]["dollars"] == pytest.approx((500 * 2 + 50 * 4) / 1e6)
    assert 9 * 0.002 <= costs["first"]["seconds"] < 9


def test_the_worst_of_each_check_and_measure_are_listed(out: Path) -> None:
    worst = read_report(out).as_json()["worst"]
    refused = [name for name in worst if name.startswith("refused by ")]
    assert refused
    assert all([one["id"] for one in worst[name]] == ["c02"] for name in refused)
    assert [one["id"] for one in worst["most requests"]] == ["c02"]
    scores = [float(one["value"]) for one in worst["score of first"]]
    assert scores == sorted(scores)
    assert len(scores) == 8


def test_histograms_count_each_caption_once(out: Path) -> None:
    report = read_report(out)
    assert sum(report.lengths["audio"].values()) == 8
    assert {name: own.total() for name, own in report.confidence.items()} == {"first": 8, "second": 8}
    assert set(report.confidence["first"]) == {"low", "medium", "high"}
    assert report.words.top(3) == {"1": 8, "first": 8, "c00": 1}


def test_the_page_shows_every_text_as_text_and_stands_without_the_files(out: Path) -> None:
    html = page(read_report(out))
    assert "<script>alert" not in html
    assert "\u202e" not in html
    assert "&lt;script&gt;alert" in html
    assert "no player" in html
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", html)
    for text in ("second 1 of c00", "template", "RuntimeError", "cannot do c04", "drops"):
        assert text in html, text


def test_a_run_that_is_not_finished_and_one_of_nothing_have_a_page(out: Path) -> None:
    for path in (out / "partitions").glob("*.json"):
        path.unlink()
    report = read_report(out)
    assert (report.done, report.unfinished) == (0, 3)
    assert "3 partitions not finished" in page(report)
    for path in (out / "journal").glob("*"):
        path.unlink()
    assert "0 clips" in page(read_report(out))


def test_a_folder_without_a_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="holds no run"):
        read_report(tmp_path)


def test_counts_forget_what_is_rare_and_are_too_low_by_no_more_than_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "OFTEN", 10)
    often = Often()
    for number in range(1000):
        often.add("the same" if number % 2 else f"rare {number}")
        assert len(often.counts) <= 20
    (name, count), *_ = often.top().items()
    assert name == "the same"
    assert 500 - often.missed <= count <= 500


def test_lowest_keeps_ten_and_of_equal_ones_the_first_by_id() -> None:
    lowest = Lowest()
    for number in reversed(range(1000)):
        lowest.add(number // 500, str(number), {"id": f"{number:04d}"})
    assert [said for said, _ in lowest.clips()] == [str(number) for number in range(10)]


def test_a_page_of_many_clips_is_no_larger_than_one_of_some(out: Path) -> None:
    few = len(page(read_report(out)))
    shard = pq.read_table(out / "shards" / "00000.parquet")
    pq.write_table(pa.concat_tables([shard] * 300), out / "shards" / "00000.parquet")
    assert read_report(out).done > 500
    assert len(page(read_report(out))) < 1.5 * few
