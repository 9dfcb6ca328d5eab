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
    cues = (tmp_path / "vtt" / "a.wav.vtt").read_text()
    assert cues.startswith("WEBVTT\n")
    assert cues.count("-->") == sum(bool(one["text"]) for one in told["windows"])
    assert told["windows"][0]["text"].split()[0] in peav(*command).stdout


def test_what_is_wrong_is_one_line(peav: Run, model: Path, tmp_path: Path) -> None:
    sound = write_audio(tmp_path / "a.wav", tone(0.5))
    (tmp_path / "b").mkdir()
    other = write_audio(tmp_path / "b" / "a.wav", tone(0.5))
    for arguments, message in (
        ((str(sound), "--model", "tiny"), "no captioner"),
        ((str(sound), str(other), "--model", str(model), "--vtt", "x"), "--vtt: two files have the same name"),
        ((str(sound), "--model", str(model), "--prompt", " "), "prompt is not empty"),
    ):
        result = peav("describe", *arguments)
        assert result.exit_code == 2
        assert message in result.stderr
