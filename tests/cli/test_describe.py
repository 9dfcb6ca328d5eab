"""`peav describe` prints what `peav.Captioner` says, in every form."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from media.make import tone, write_audio

from peav.events.names import unique_names

pytest.importorskip("transformers", reason="pip install transformers")
from random_captioner import save_captioner

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_captioner(tmp_path_factory.mktemp("plm"))


def test_every_form_says_what_python_says(peav: Run, model: Path, tmp_path: Path) -> None:
    from peav.captioner import Captioner

    sounds = tmp_path / "sounds"
    sounds.mkdir()
    good = write_audio(sounds / "a.wav", tone(2.5))
    (sounds / "b.wav").write_bytes(b"no sound")
    command = ("describe", str(sounds), "--model", str(model), "--window", "1")
    found = peav(*command, "--json", "--vtt", str(tmp_path / "vtt"))
    assert found.exit_code == 0, found.output
    told, failed = json.loads(found.stdout)
    windows = list(Captioner.load(model, device="cpu").stream([good], window=1.0))
    assert told == {
        "path": str(good),
        "windows": [{"start": one.start, "end": one.end, "text": one.text} for one in windows],  # type: ignore[union-attr]
    }
    assert failed["windows"] == []
    assert "b.wav" in failed["error"]
    lines = list(csv.DictReader(io.StringIO(peav(*command, "--csv").stdout)))
    assert [line["text"] for line in lines] == [*(one["text"] for one in told["windows"]), ""]
    assert lines[-1]["error"] == failed["error"]
    cues = (tmp_path / "vtt" / "a.vtt").read_text()
    assert cues.startswith("WEBVTT\n")
    assert cues.count("-->") == sum(bool(one["text"]) for one in told["windows"])
    assert told["windows"][0]["text"].split()[0] in peav(*command).stdout


def test_what_is_wrong_is_one_line(peav: Run, model: Path, tmp_path: Path) -> None:
    sound = write_audio(tmp_path / "a.wav", tone(0.5))
    for arguments, message in (
        ((str(sound), "--model", "tiny"), "no captioner"),
        ((str(sound), "--model", str(model), "--csv", "-o", str(tmp_path / "told")), "--csv goes to stdout"),
        ((str(sound), "--model", str(model), "--prompt", " "), "prompt is not empty"),
    ):
        result = peav("describe", *arguments)
        assert result.exit_code == 2
        assert message in result.stderr


def test_a_run_goes_on_where_it_was_and_lists_what_failed(peav: Run, model: Path, tmp_path: Path) -> None:
    sounds, told = tmp_path / "sounds", tmp_path / "told"
    (sounds / "b").mkdir(parents=True)
    write_audio(sounds / "a.wav", tone(0.5))
    write_audio(sounds / "b" / "a.wav", tone(0.7, seed=1))
    (sounds / "c.wav").write_bytes(b"no sound")
    command = ("describe", str(sounds), "--model", str(model), "-o", str(told), "--json")
    first = json.loads(peav(*command, "--limit", "1").stdout)
    second = json.loads(peav(*command, "--vtt", str(tmp_path / "vtt")).stdout)
    third = json.loads(peav(*command).stdout)
    counts = ("described", "failed", "skipped", "failed_before")
    assert [[one[name] for name in counts] for one in (first, second, third)] == [
        [1, 0, 0, 0],
        [1, 1, 1, 0],
        [0, 0, 2, 1],
    ]
    lines = [json.loads(line) for line in (told / "captions.jsonl").read_text().splitlines()]
    alone = [json.loads(peav("describe", line["path"], "--model", str(model), "--json").stdout)[0] for line in lines]
    assert [{"path": line["path"], "windows": line["windows"]} for line in lines] == alone
    assert json.loads((told / "failures.jsonl").read_text())["path"].endswith("c.wav")
    assert {path.name for path in (tmp_path / "vtt").iterdir()} == {
        f"{name}.vtt"
        for name in unique_names([Path(line["path"]) for line in lines if line["windows"][0]["text"]]).values()
    }
    retried = json.loads(peav(*command, "--retry-failed").stdout)
    assert [retried[name] for name in counts] == [0, 1, 2, 0]
    other = json.loads(peav(*command, "--prompt", "events").stdout)
    assert other["described"] == 2  # another question, other captions


def test_captions_stand_in_the_pages_of_search_and_detection(peav: Run, tmp_path: Path) -> None:
    sound = write_audio(tmp_path / "a.wav", tone(4.0))
    told = tmp_path / "told"
    told.mkdir()
    windows = [{"start": 0.0, "end": 2.0, "text": "a <b>dog</b>"}, {"start": 2.0, "end": 4.0, "text": "a cat"}]
    (told / "captions.jsonl").write_text(json.dumps({"path": str(sound), "windows": windows}) + "\n")
    library, hits, timeline = (str(tmp_path / name) for name in ("lib.parquet", "hits.html", "timeline.html"))
    assert peav("embed", str(sound), "-o", library, "--window", "2").exit_code == 0
    found = peav("search", library, "a dog", "--top", "1", "--html", hits, "--captions", str(told), "--json")
    assert found.exit_code == 0, found.output
    first = json.loads(found.stdout)[0]["start"] == 0
    shown = Path(hits).read_text()
    assert ("a &lt;b&gt;dog&lt;/b&gt;" in shown, "a cat" in shown) == (first, not first)
    detected = peav("detect", str(sound), "--labels", "dog", "--html", timeline, "--captions", str(told))
    assert detected.exit_code == 0, detected.output
    shown = Path(timeline).read_text()
    assert shown.index('data-start="0.000"') < shown.index("a &lt;b&gt;dog&lt;/b&gt;") < shown.index("a cat")
    for arguments in (("search", library, "a dog"), ("detect", str(sound), "--labels", "dog")):
        refused = peav(*arguments, "--captions", str(told))
        assert (refused.exit_code, "give --html PAGE too" in refused.stderr) == (2, True)
    refused = peav("search", library, "a dog", "--html", hits, "--captions", str(tmp_path))
    assert (refused.exit_code, "holds no captions.jsonl" in refused.stderr) == (2, True)
