"""A run against an endpoint that fails: nothing is lost, nothing is asked twice, and no row costs the job."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from runs import STUB, here, line, shards
from stub_server import StubServer

from peav.engine.endpoint import BudgetError
from peav.engine.recipe import EngineRecipe
from peav.engine.run import Summary, caption, retry
from peav.recipes.config import from_mapping

CLIPS = 12


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "clips.jsonl"
    path.write_text("".join(json.dumps(line(i)) + "\n" for i in range(CLIPS)))
    return path


def answer(said: str) -> str:
    """As a model that takes the first weak caption."""
    known = json.loads(said)
    return json.dumps({"id": known["id"], "audio": known["audio"][0]["text"]})


def question(number: int) -> str:
    """What the rewriter asks about a clip."""
    known = {"id": f"c{number:02d}", "audio": [{"text": f"weak 1 of c{number:02d}"}], "write": ["audio"]}
    return json.dumps(known)


def recipe(server: StubServer, **options: Any) -> EngineRecipe:
    rewrite = {"class": "llm", "url": server.url, "model": "stub", "timeout": 0.5, "backoff": 0.01, "parallel": 2}
    weak = {"class": f"{STUB}:Stub", "name": "weak"}
    return from_mapping(EngineRecipe, {"name": "llm", "rows": 5, "captioners": [weak], "rewrite": rewrite | options})


def run(manifest: Path, server: StubServer, **options: Any) -> Summary:
    return caption(str(manifest), manifest.parent / "out", recipe(server, **options), runner=here)


def failed(manifest: Path) -> dict[str, dict[str, Any]]:
    path = manifest.parent / "out" / "failures.jsonl"
    lines = [json.loads(one) for one in path.read_text().splitlines()] if path.exists() else []
    assert len(lines) == len({one["id"] for one in lines})
    return {one["id"]: one for one in lines}


def peace(manifest: Path) -> dict[str, bytes]:
    """The shards of a run whose endpoint never fails."""
    with StubServer(answer) as server:
        out = manifest.parent / "peace"
        caption(str(manifest), out, recipe(server), runner=here)
        assert set(server.asked.values()) == {1}
    return shards(out)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [429, 500, 503, "hang", "drop", "malformed", "truncated", "no choices", "no text"])
def test_what_a_server_does_wrong_now_and_then_changes_no_byte(manifest: Path, fault: int | str) -> None:
    with StubServer(answer, {question(i): [fault] * (1 + i % 2) for i in range(0, CLIPS, 3)}) as server:
        summary = run(manifest, server)
        assert (summary.done, summary.failed) == (CLIPS, 0)
        assert set(server.answered.values()) == {1}
        assert len(server.answered) == CLIPS
    assert shards(manifest.parent / "out") == peace(manifest)


@pytest.mark.slow
def test_a_row_that_the_server_never_answers_fails_alone_and_is_asked_again_on_demand(manifest: Path) -> None:
    with StubServer(answer, {question(4): [500] * 3, question(7): [400]}) as server:
        assert run(manifest, server, attempts=3).failed == 2
        assert sorted(failed(manifest)) == ["c04", "c07"]
        assert {one["stage"] for one in failed(manifest).values()} == {"llm"}
        before = server.asked.total()
        assert run(manifest, server, attempts=3).failed == 2
        assert server.asked.total() == before
        assert retry(manifest.parent / "out") == 2
        assert (run(manifest, server).failed, server.asked.total()) == (0, before + 2)
    assert failed(manifest) == {}
    assert shards(manifest.parent / "out") == peace(manifest)


@pytest.mark.slow
def test_an_answer_in_a_wrong_form_is_asked_for_once_more_and_then_falls_back(manifest: Path) -> None:
    with StubServer(lambda said: "no" if json.loads(said)["id"] == "c03" else answer(said)) as server:
        summary = run(manifest, server)
        assert (summary.done, summary.failed, summary.asked["llm again"]) == (CLIPS, 0, 1)
        assert server.answered.total() == CLIPS + 1


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back_loses_nothing(manifest: Path) -> None:
    first = StubServer(answer, seconds=0.05)
    came: list[StubServer] = []

    def restart() -> None:
        while first.answered.total() < 5:
            time.sleep(0.01)
        first.kill()
        time.sleep(0.3)
        came.append(StubServer(answer, port=first.port))

    thread = threading.Thread(target=restart)
    thread.start()
    summary = run(manifest, first, attempts=20, backoff=0.1)
    thread.join()
    assert (summary.done, summary.failed) == (CLIPS, 0)
    answered = first.answered + came[0].answered
    came[0].kill()
    assert len(answered) == CLIPS
    assert answered.total() <= CLIPS + 2  # what was in flight when it died
    assert shards(manifest.parent / "out") == peace(manifest)


@pytest.mark.slow
def test_a_server_that_is_gone_fails_its_rows_and_the_next_run_goes_on_elsewhere(manifest: Path) -> None:
    dead = StubServer(answer)
    dead.kill()
    assert run(manifest, dead, attempts=2).failed == CLIPS
    assert retry(manifest.parent / "out") == CLIPS
    with StubServer(answer) as server:  # at another address: no answer depends on it
        summary = run(manifest, server)
        assert (summary.done, summary.asked) == (CLIPS, {"llm": CLIPS})
    assert shards(manifest.parent / "out") == peace(manifest)


@pytest.mark.slow
@pytest.mark.parametrize("spent", [{"max_requests": 4}, {"max_dollars": 40e-6, "input_price": 1.0}])
def test_a_budget_that_is_spent_and_raised_asks_nothing_twice(manifest: Path, spent: dict[str, float]) -> None:
    with StubServer(answer) as server:
        with pytest.raises(BudgetError, match="raise it and run the same command again"):
            run(manifest, server, **spent)
        assert 4 <= server.asked.total() <= 6
        assert not list((manifest.parent / "out").rglob("*.hand"))
        summary = run(manifest, server)
        assert (summary.done, summary.failed) == (CLIPS, 0)
        assert set(server.asked.values()) == {1}
        assert len(server.asked) == CLIPS
        assert run(manifest, server, max_requests=9).asked == {}
    assert shards(manifest.parent / "out") == peace(manifest)


@pytest.mark.slow
def test_a_changed_prompt_under_the_same_path_asks_that_stage_alone(manifest: Path) -> None:
    prompt = manifest.parent / "prompt.txt"
    with StubServer(answer) as server:
        for number, text in enumerate(("Write a caption. {id}", "Write one caption. {id}"), 1):
            prompt.write_text(text)
            summary = run(manifest, server, prompt=str(prompt))
            assert summary.asked["llm"] == CLIPS
            assert summary.asked["weak"] == (CLIPS if number == 1 else 0)
        assert run(manifest, server, prompt=str(prompt)).asked == {}
