"""A dry run counts what a run would ask: no call that it makes is missing, and none is counted that is answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from media.make import tone, write_audio
from runs import asked, here, line, recipe
from tokenizers import Tokenizer, models, pre_tokenizers

from peav.engine.plan import SAMPLES, Plan, StepPlan, plan
from peav.engine.recipe import EngineRecipe
from peav.engine.run import caption
from peav.engine.tokens import count_tokens
from peav.recipes.config import from_mapping

NOWHERE = {"url": "http://127.0.0.1:1/v1", "model": "m"}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "clips.jsonl"
    path.write_text("".join(json.dumps(line(i)) + "\n" for i in range(12)))
    return path


def chat(**changes: Any) -> EngineRecipe:
    """One captioner and a rewriter that ask a server that is not there."""
    options = {"captioner": {}, "rewriter": {}} | changes
    captioner = {"class": "openai", "name": "hears", **NOWHERE, **options["captioner"]}
    rewrite = {"class": "llm", "name": "writes", **NOWHERE, **options["rewriter"]}
    return from_mapping(EngineRecipe, {"name": "chat", "captioners": [captioner], "rewrite": rewrite})


def steps(found: Plan) -> dict[str, StepPlan]:
    return {step.name: step for step in found.steps}


def calls(found: Plan) -> dict[str, int]:
    return {step.name: step.calls for step in found.steps}


def test_it_counts_the_calls_that_the_run_then_makes_and_leaves_no_trace(manifest: Path, tmp_path: Path) -> None:
    wanted = recipe(tmp_path / "log")
    found = plan(str(manifest), tmp_path / "out", wanted)
    assert not (tmp_path / "out").exists()
    assert asked(tmp_path / "log") == []
    assert (found.rows, found.clips, found.partitions) == (12, 12, 3)
    assert calls(found) == caption(str(manifest), tmp_path / "out", wanted, runner=here).asked
    assert found.media_hours == pytest.approx(12 / 3600)


def test_what_the_journals_know_is_not_counted(manifest: Path, tmp_path: Path) -> None:
    caption(str(manifest), tmp_path / "out", recipe(tmp_path / "log"), runner=here, limit=7)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    for change in ({}, {"final": {"version": 2}}, {"first": {"version": 2}}):
        wanted = recipe(tmp_path / "log", **change)
        found = plan(str(manifest), tmp_path / "out", wanted)
        assert calls(found) == {"first": 12 if "first" in change else 5, "second": 5, "final": 12 if change else 5}
        assert {step.name: step.calls + step.known for step in found.steps} == dict.fromkeys(calls(found), 12)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    assert len(asked(tmp_path / "log")) == 21


def test_seconds_and_bytes_that_a_run_measured_are_those_of_the_rest(manifest: Path, tmp_path: Path) -> None:
    wanted = recipe(tmp_path / "log", first={"slow": 0.05}, second={"seconds": 36.0, "gpu_seconds": 3.6})
    fresh = steps(plan(str(manifest), tmp_path / "out", wanted))
    assert (fresh["first"].worker_hours, fresh["first"].seconds_by) == (None, None)
    assert (fresh["second"].worker_hours, fresh["second"].gpu_hours) == pytest.approx((0.12, 0.012))
    caption(str(manifest), tmp_path / "out", wanted, runner=here, limit=6)
    found = plan(str(manifest), tmp_path / "out", wanted)
    own = steps(found)["first"]
    assert (own.calls, own.seconds_by) == (6, "journal")
    assert own.worker_hours is not None
    assert 6 * 0.05 <= own.worker_hours * 3600 < 2 * 6 * 0.05
    assert found.run_bytes is not None
    assert found.run_bytes > 0


def test_tokens_are_those_of_the_requests_by_the_models_own_tokenizer(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(line(1)) + "\n")
    ours = {"tokenizer": str(tmp_path)}
    found = steps(plan(str(path), tmp_path / "out", chat(captioner={**ours, "media_tokens": 100}, rewriter=ours)))
    prompts = Path("src/peav/engine/prompts").resolve()
    system = count_tokens((prompts / "rewrite_v1.txt").read_text().strip(), tmp_path)[0]
    given = {"id": "c01", "audio": [{"text": SAMPLES["audio"]}], "write": ["audio"]}
    user = count_tokens(json.dumps(given), tmp_path)[0]
    said = count_tokens(json.dumps({"id": "c01", "audio": SAMPLES["audio"]}), tmp_path)[0]
    writes, hears = found["writes"], found["hears"]
    assert (writes.prompt_tokens, writes.shared_tokens, writes.output_tokens) == (system + user, system, said)
    assert hears.shared_tokens == count_tokens((prompts / "caption_audio_v1.txt").read_text().strip(), tmp_path)[0]
    assert hears.prompt_tokens == hears.shared_tokens + 100
    assert {writes.tokens_by, hears.tokens_by} == {"tokenizer"}


def test_money_is_at_the_recipes_prices_and_shared_tokens_at_theirs(manifest: Path, tmp_path: Path) -> None:
    prices = {"input_price": 2.0, "cached_price": 0.5, "output_price": 8.0}
    own = steps(plan(str(manifest), tmp_path / "out", chat(rewriter=prices)))["writes"]
    fresh = own.prompt_tokens - own.shared_tokens
    assert own.dollars == pytest.approx((2 * fresh + 0.5 * own.shared_tokens + 8 * own.output_tokens) / 1e6)
    rates = {"input_rate": 1000.0, "output_rate": 10.0}
    timed = steps(plan(str(manifest), tmp_path / "out", chat(rewriter=rates)))["writes"]
    assert timed.gpu_hours == pytest.approx((fresh / 1000 + own.output_tokens / 10) / 3600)


def test_without_a_tokenizer_and_without_times_it_says_so(manifest: Path, tmp_path: Path) -> None:
    found = plan(str(manifest), tmp_path / "out", chat())
    assert steps(found)["writes"].tokens_by == "estimate"
    said = "\n".join(found.assumptions)
    for words in ("tokens of hears, writes, writes again are estimated", "hears: frames and sound are not counted",
                  "nobody knows how long hears, writes", "10% of rewrites are refused once"):  # fmt: skip
        assert words in said
    assert calls(found)["writes again"] == round(0.1 * 12)


def test_figures_for_many_clips_are_those_of_a_few_times_over(manifest: Path, tmp_path: Path) -> None:
    wanted = recipe(tmp_path / "log", first={"seconds": 0.5})
    caption(str(manifest), tmp_path / "out", wanted, runner=here, limit=7)
    found = plan(str(manifest), tmp_path / "out", wanted, clips=120_000)
    assert calls(found) == dict.fromkeys(("first", "second", "final"), 120_000)  # from the beginning
    assert steps(found)["first"].worker_hours == pytest.approx(60_000 / 3600)
    assert found.media_hours == pytest.approx(120_000 / 3600)


def test_long_rows_are_segments_and_lengths_that_no_manifest_tells_are_probed(tmp_path: Path) -> None:
    for number in range(3):
        write_audio(tmp_path / f"{number}.wav", tone(0.2, seed=number))
    rows = [line(number) for number in range(4)]
    for row in rows[:3]:
        del row["duration"]
    rows[3]["duration"] = 70.0
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = plan(str(tmp_path / "clips.jsonl"), tmp_path / "out", recipe(tmp_path / "log"))
    assert (found.rows, found.clips) == (4, 3 + 3)
    assert found.media_hours * 3600 == pytest.approx(3 * 0.2 + 70, abs=0.01)
    assert any("lengths of 3 rows stand in no manifest: 3 were probed, mean 0.2 s" in one for one in found.assumptions)


def test_a_clip_that_its_row_leaves_out_costs_nothing(manifest: Path, tmp_path: Path) -> None:
    wanted = recipe(tmp_path / "log", filters=[{"class": "duration", "min_seconds": 2.0}])
    found = plan(str(manifest), tmp_path / "out", wanted)
    assert (found.clips, found.steps) == (0, ())
