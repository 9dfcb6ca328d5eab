"""`peav demo`: the searches are what they say, and the page is one file that plays."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media.make import pictures, tone, write_audio, write_video
from random_model import random_encoder

from peav.cli.demo_page import Facts, build, heat_map
from peav.cli.demo_searches import Item, embed, run_searches
from peav.media import load_audio, load_frames, probe
from peav.media.preview import preview
from peav.synth.world import speech

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Three clips with captions, one without pictures, one own file and one that cannot be read."""
    folder = tmp_path_factory.mktemp("demo")
    items = []
    for i in range(3):
        path = write_video(folder / f"clip{i}.mp4", pictures(12, seed=i), sound=tone(0.5, seed=i))
        captions = {kind: f"{kind} <{i}>" for kind in ("audio", "video", "audio_video")}
        items.append(Item(path, captions, transcript=f"said {i}" if i else None))
    items.append(Item(write_audio(folder / "sound.wav", tone(0.5, seed=7)), {"audio": "audio <0>"}))
    items.append(
        Item(write_video(folder / "mine & yours.mkv", pictures(12, seed=9), sound=tone(0.5, seed=9)), own=True)
    )
    bad = folder / "bad.mp4"
    bad.write_text("hello")
    return [*items, Item(bad, own=True)]


def test_searches_rank_every_candidate_and_know_the_right_answers(items: list[Item]) -> None:
    encoder = random_encoder()
    failures = embed(encoder, items)
    assert [Path(failure.source).name for failure in failures] == ["bad.mp4"]
    assert len(items) == 5
    searches = {search.key: search for search in run_searches(encoder, items)}
    sizes = {key: search.scores.shape for key, search in searches.items()}
    assert sizes == {
        "text -> video": (3, 4),
        "text -> audio": (3, 5),
        "audio -> video": (4, 4),
        "video -> audio": (4, 5),
        "speech -> transcript": (2, 2),
    }
    # Two clips share the caption "audio <0>": both are right.
    assert searches["text -> audio"].right.sum(1).tolist() == [2, 1, 1]
    for search in searches.values():
        for query in search.shown:
            assert any(answer.right for answer in query.answers)
            assert [answer.rank for answer in query.answers] == sorted(answer.rank for answer in query.answers)
    page = build(items, list(searches.values()), Facts("random", 1, 1.0, 4, 1))
    assert_self_contained(page, len(items))


def assert_self_contained(page: str, clips: int) -> None:
    addresses = re.findall(r"""(?:src|href)=["']([^"']*)|url\(["']?([^"')]*)""", page)
    assert addresses
    assert all((one or other).startswith(("data:", "#")) for one, other in addresses)
    assert "audio &lt;0&gt;" in page
    assert page.count('"data:video/mp4;base64,') == clips


@pytest.mark.slow
def test_a_preview_of_any_file_is_a_small_playable_mp4(tmp_path: Path) -> None:
    import base64

    big = write_video(tmp_path / "big.mkv", pictures(60, 480, 640), sound=tone(2.4, channels=2))
    data = base64.b64decode(preview(big, True).partition(",")[2])
    info = probe(data)
    assert (info.width, info.height) == (320, 240)
    assert load_audio(data).size == pytest.approx(2.4 * 48000, rel=0.03)
    assert len(load_frames(data).times) == pytest.approx(2.4 * 12, abs=1)
    sound = base64.b64decode(preview(write_audio(tmp_path / "sound.wav", tone(1.0)), False).partition(",")[2])
    assert not probe(sound).has_video


def test_a_heat_map_colors_each_cell_by_its_place_in_the_row() -> None:
    scores = np.array([[0.0, 1.0, 10.0], [5.0, 5.0, -5.0]])
    drawn = heat_map(scores, np.eye(2, 3, dtype=bool))
    assert 'class="h7" d="M2 0h1v1H2zM0 1h2v1H0z"' in drawn
    assert 'class="truth" d="M0 0h1v1h-1zM1 1h1v1h-1z"' in drawn


@pytest.mark.slow
def test_the_demo_runs_from_clips_to_page(as_json: Run, model: str, tmp_path: Path, folder: Path) -> None:
    report = as_json("demo", "--out", tmp_path, "--clips", 8, "--media", folder, "--model", model, "--no-open")
    page = Path(report["page"])
    assert page.parent == tmp_path
    assert page.stat().st_size < 15 * 2**20
    assert (report["clips"], report["own"]) == (8, 4)
    assert {"text -> video", "text -> audio", "audio -> video", "video -> audio"} <= {
        s["search"] for s in report["searches"]
    }


@pytest.mark.slow
def test_the_demo_prints_one_table_and_the_page_and_opens_it_without_a_word(
    peav: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho flood; echo flood >&2; echo "$1" >{opened}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    result = peav("demo", "--out", tmp_path, "--clips", 6, "--model", model)
    assert result.exit_code == 0, result.output
    head, *searches, blank, page = result.stdout.splitlines()
    assert head.split() == ["search", "queries", "candidates", "R@1", "R@5", "chance"]
    assert [line.split("  ")[0].strip() for line in searches] == [
        "Words to pictures",
        "Words to sound",
        "Sound to pictures",
        "Pictures to sound",
    ]
    assert not blank
    assert page.startswith(str(tmp_path / "index.html"))
    assert opened.read_text().strip() == (tmp_path / "index.html").as_uri()
    assert "flood" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_the_demo_of_a_plain_installation_goes_without_speech_and_says_so(
    peav: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    speech._installation.cache_clear()
    result = peav("demo", "--out", tmp_path, "--clips", 6, "--model", model, "--no-open", "--json")
    speech._installation.cache_clear()
    assert result.exit_code == 0, result.output
    assert "pip install 'peav[world]'" in result.stderr
    report = json.loads(result.stdout)
    assert report["clips"] == 6
    assert "speech -> transcript" not in {search["search"] for search in report["searches"]}
    assert Path(report["page"]).is_file()
