"""`peav describe` prints what `peav.Captioner` says, in every form."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media.make import tone, write_audio

from peav.captioner import Captioner
from peav.describe import describe_files, read_captions
from peav.errors import CaptionsError
from peav.events.names import unique_names
from peav.jobs import version_of

pytest.importorskip("transformers", reason="pip install transformers")
from random_captioner import save_captioner

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_captioner(tmp_path_factory.mktemp("plm"))


def test_every_form_says_what_python_says(peav: Run, model: Path, tmp_path: Path) -> None:
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
        ((str(sound), "--model", str(model), "--window", "200"), "give a shorter window"),
        ((str(sound), "--model", str(model), "--vtt", str(sound)), "File exists"),
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
    found = [[one[name] for name in counts] for one in (first, second, third)]
    assert found == [[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 2, 1]]
    lines = [json.loads(line) for line in (told / "captions.jsonl").read_text().splitlines()]
    alone = [json.loads(peav("describe", line["path"], "--model", str(model), "--json").stdout)[0] for line in lines]
    assert [{"path": line["path"], "windows": line["windows"]} for line in lines] == alone
    assert json.loads((told / "failures.jsonl").read_text())["path"].endswith("c.wav")
    names = unique_names([*(Path(line["path"]) for line in lines), sounds / "c.wav"])
    assert {path.name for path in (tmp_path / "vtt").iterdir()} == {
        f"{names[Path(line['path'])]}.vtt" for line in lines
    }
    retried = json.loads(peav(*command, "--retry-failed").stdout)
    assert [retried[name] for name in counts] == [0, 1, 2, 0]
    for refused in (("--prompt", " "), ("--window", "10000")):
        before = (told / "captions.jsonl").read_bytes()
        assert peav(*command, *refused).exit_code == 2
        assert (told / "captions.jsonl").read_bytes() == before
    assert describe_files(Captioner.load(model, device="cpu"), [sounds], told, window=10).skipped == 2
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
    assert "no captions" not in found.stderr
    first = json.loads(found.stdout)[0]["start"] == 0
    shown = Path(hits).read_text()
    assert ("a &lt;b&gt;dog&lt;/b&gt;" in shown, "a cat" in shown) == (first, not first)
    (tmp_path / "link").symlink_to(tmp_path)  # the same file by another way
    job = (
        "detect",
        str(tmp_path / "link" / "a.wav"),
        "--labels",
        "dog",
        "--html",
        timeline,
        "-o",
        str(tmp_path / "found"),
    )
    assert peav(*job).exit_code == 0
    assert "a cat" not in Path(timeline).read_text()
    detected = peav(*job, "--captions", str(told))  # the page is there, but without them
    assert detected.exit_code == 0, detected.output
    shown = Path(timeline).read_text()
    assert shown.index('data-start="0.000"') < shown.index("a &lt;b&gt;dog&lt;/b&gt;") < shown.index("a cat")
    for arguments in (("search", library, "a dog"), ("detect", str(sound), "--labels", "dog")):
        refused = peav(*arguments, "--captions", str(told))
        assert (refused.exit_code, "give --html PAGE too" in refused.stderr) == (2, True)
    (told / "captions.jsonl").write_text(json.dumps({"path": "/elsewhere.wav", "windows": windows}) + "\n")
    assert (
        "no captions of these files" in peav("search", library, "a dog", "--html", hits, "--captions", str(told)).stderr
    )
    refused = peav("search", library, "a dog", "--html", hits, "--captions", str(tmp_path))
    assert (refused.exit_code, "holds no captions.jsonl" in refused.stderr) == (2, True)


def test_captions_of_a_file_that_has_changed_since_are_not_read(tmp_path: Path) -> None:
    sound = write_audio(tmp_path / "a.wav", tone(0.5))
    path, size, mtime = version_of(sound)
    line = {"path": path, "windows": [{"start": 0, "end": 1, "text": "a dog\x1b[31m"}], "size": size, "mtime": mtime}
    (tmp_path / "captions.jsonl").write_text(json.dumps(line) + "\n")
    assert [one.text for one in read_captions(tmp_path)[path]] == ["a dog\\x1b[31m"]
    write_audio(sound, tone(0.6))
    assert read_captions(tmp_path) == {}
    sound.unlink()
    assert list(read_captions(tmp_path)) == [path]


@pytest.mark.parametrize(
    "change",
    [
        {"path": None}, {"path": [1]}, {"windows": None}, {"windows": "abc"}, {"windows": [{}]},
        {"windows": [{"start": "0", "end": 1, "text": "a"}]}, {"windows": [{"start": 0, "end": 1, "text": 5}]},
        {"windows": [{"start": float("nan"), "end": 1, "text": "a"}]},
        {"windows": [{"start": 0, "end": float("inf"), "text": "a"}]},
        {"windows": [{"start": 0, "end": 1, "text": "\ud800"}]},
    ],
)  # fmt: skip
def test_a_line_of_captions_that_is_not_as_it_was_written_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    line = {"path": "/a.wav", "windows": [{"start": 0, "end": 1, "text": "a dog"}]} | change
    (tmp_path / "captions.jsonl").write_text(json.dumps(line) + "\n" + "[" * 100_000 + "\n")
    with pytest.raises(CaptionsError, match="is not as peav describe wrote it"):
        read_captions(tmp_path)


def test_a_file_that_fails_on_the_way_counts_as_failed_alone(peav: Run, model: Path, tmp_path: Path) -> None:
    waveform = np.zeros((1, 5 * 48_000), np.float32)
    waveform[0, 3 * 48_000] = np.nan
    write_audio(tmp_path / "a.wav", waveform, codec="pcm_f32le")
    command = ("describe", str(tmp_path / "a.wav"), "--model", str(model), "--window", "1", "--json")
    (alone,) = json.loads(peav(*command, "--vtt", str(tmp_path / "vtt")).stdout)
    assert (bool(alone["windows"]), "error" in alone) == (True, True)
    summary = json.loads(peav(*command, "-o", str(tmp_path / "told")).stdout)
    assert [summary[name] for name in ("described", "windows", "failed")] == [0, 0, 1]
    assert list((tmp_path / "vtt").iterdir()) == []
