"""A file's name may hold any character; no verb lets one act on the terminal, and JSON stays JSON."""

from __future__ import annotations

import json
import math
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from media.make import cut, tone, write_audio
from random_detector import random_detector
from typer.testing import Result

from peav.cli.console import print_json
from peav.utils.terminal import is_control

NAME = "a\x1b]0;owned\x07\x1b[31m\nb\x9b2J\u202ec[bold]\\"
RAW = b"raw\xff\x1b[2J.wav"

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good, bad and truncated files with such names, one of them no UTF-8, in a folder with such a name."""
    folder = tmp_path_factory.mktemp("evil") / f"folder{NAME}"
    folder.mkdir()
    sound = write_audio(tmp_path_factory.mktemp("sound") / "a.wav", tone(1.0))
    data = sound.read_bytes()
    (folder / f"good{NAME}.wav").write_bytes(data)
    (folder / f"bad{NAME}.wav").write_text("no sound")
    (folder / f"cut{NAME}.wav").write_bytes(cut(sound, 0.5).read_bytes())
    Path(os.fsdecode(os.fsencode(folder) + b"/" + RAW)).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("detector") / "model"
    random_detector().save_pretrained(folder)
    return str(folder)


def harmless(result: Result) -> Result:
    """Nothing that was printed acts on a terminal."""
    for text in (result.stdout, result.stderr):
        text.encode()
        assert {c for c in text if is_control(c)} <= {"\n", "\t"}
        assert not any(line.startswith("b\\x9b2J") for line in text.splitlines()), "a name has no second line"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def strict(text: str) -> object:
    def no(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=no)


@pytest.fixture
def library(evil: Path, model: str, peav: Run, tmp_path: Path) -> Path:
    path = tmp_path / f"lib{NAME}.parquet"
    result = harmless(peav("embed", evil, "-o", path, "--model", model, "--json"))
    summary = strict(result.stdout)
    assert isinstance(summary, dict)
    assert (summary["embedded"], summary["failed"]) == (2, 2)
    return path


@pytest.mark.slow
def test_embed_and_search(evil: Path, model: str, peav: Run, library: Path) -> None:
    for line in library.with_name("failures.jsonl").read_bytes().splitlines():
        strict(line.decode())
    assert harmless(peav("embed", evil, "-o", library, "--model", model)).exit_code == 0
    assert harmless(peav("embed", evil, "-o", library, "--model", model, "--no-resume")).exit_code == 0
    for options in ((), ("--json",)):
        result = harmless(peav("search", library, "--text", "a dog", "--model", model, *options))
        assert result.exit_code == 0, result.output
    found = strict(result.stdout)
    assert isinstance(found, list)
    assert {Path(hit["path"]).name for hit in found} == {f"good{NAME}.wav", f"cut{NAME}.wav"}


@pytest.mark.slow
def test_classify(evil: Path, model: str, peav: Run) -> None:
    for options in ((), ("--json",)):
        labels = ("--labels", f"dog,cat{NAME}")
        result = harmless(peav("classify", evil, *labels, "--model", model, *options))
        assert result.exit_code == 0, result.output
    found = strict(result.stdout)
    assert isinstance(found, list)
    assert os.fsdecode(RAW) in {Path(entry["path"]).name for entry in found}


@pytest.mark.parametrize("format", ["table", "json", "tsv"])
def test_detect(format: str, evil: Path, detector: str, peav: Run) -> None:
    result = harmless(peav("detect", evil, "--labels", f"dog,cat{NAME}", "--model", detector, "--format", format))
    assert result.exit_code == 0, result.output
    if format == "json":
        strict(result.stdout)


@pytest.mark.slow
def test_detect_into_a_folder(evil: Path, detector: str, peav: Run, tmp_path: Path) -> None:
    for options in ((), ("--json",), ("--no-resume",)):
        result = harmless(
            peav("detect", evil, "--labels", "dog", "--model", detector, "-o", tmp_path / f"out{NAME}", *options)
        )
        assert result.exit_code == 0, result.output
    for file in (tmp_path / f"out{NAME}").rglob("*.json"):
        strict(file.read_text())


def test_prepare(evil: Path, model: str, peav: Run, tmp_path: Path) -> None:
    rows = [{"id": f"{i}{NAME}", "path": str(path)} for i, path in enumerate(sorted(evil.glob("*[btd]*.wav")))]
    manifest = tmp_path / f"manifest{NAME}.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for options in ((), ("--json",)):
        harmless(peav("prepare", manifest, "-o", tmp_path / f"cache{NAME}", "--model", model, *options))
    for line in (tmp_path / f"cache{NAME}" / "failures.jsonl").read_text().splitlines():
        strict(line)


@pytest.mark.parametrize(
    "arguments",
    [
        ("embed", f"nowhere{NAME}", "-o", "lib.parquet", "--model", f"no model{NAME}"),
        ("search", f"nowhere{NAME}.parquet", "--text", "x"),
        ("classify", f"nowhere{NAME}", "--labels", "dog"),
        ("detect", "a.wav", "--labels", "dog", "--model", f"nowhere{NAME}"),
        ("detect", "eval", f"nowhere{NAME}", f"nor{NAME}.tsv"),
        ("train", f"nowhere{NAME}.yaml"),
        ("convert", f"nowhere{NAME}", f"out{NAME}", "--to", "native"),
        ("eval", f"nowhere{NAME}"),
        (f"verb{NAME}",),
        ("embed", f"--option{NAME}"),
        ("embed", "a.wav", "-o", "lib.parquet", "--window", f"4{NAME}"),
    ],
    ids=lambda arguments: ascii(" ".join(arguments[:2])),
)
def test_errors(arguments: tuple[str, ...], peav: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert harmless(peav(*arguments)).exit_code != 0


def test_json_is_json_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": NAME + os.fsdecode(RAW), "values": [math.nan, (1.0, -math.inf)], NAME: None})
    text = capsys.readouterr().out
    assert {c for c in text if is_control(c)} == {"\n"}
    assert strict(text) == {"name": NAME + os.fsdecode(RAW), "values": [None, [1.0, None]], NAME: None}


def on_a_terminal(*arguments: object) -> bytes:
    """What a verb sends to a terminal, with colors and a progress bar."""
    here, there = pty.openpty()
    command = [sys.executable, "-m", "peav", *map(os.fsencode, map(str, arguments))]
    with subprocess.Popen(command, stdin=there, stdout=there, stderr=there) as process:
        os.close(there)
        sent = b"".join(_chunks(here))
    os.close(here)
    assert process.returncode == 0, sent
    return sent


def _chunks(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(terminal, 1 << 16)
        except OSError:  # so Linux says that the other side is closed
            return
        if not chunk:
            return
        yield chunk


@pytest.mark.slow
def test_a_real_terminal_gets_none_of_it(evil: Path, model: str, tmp_path: Path) -> None:
    sent = on_a_terminal("embed", evil, "-o", tmp_path / "lib.parquet", "--model", model)
    assert b"\x1b[" in sent  # Rich's own colors
    for evil_bytes in (b"\x1b]0;owned", b"\x07", "\x9b".encode(), "\u202e".encode(), b"\xff"):
        assert evil_bytes not in sent
