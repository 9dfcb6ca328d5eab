"""A file that names other files or addresses makes us open none of them, whatever it is called and however it comes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av
import pytest
from media.hostile import Targets, Watch, lantern, playlists, subtitle_index
from random_model import random_encoder

# In a process of its own, since a FIFO that is opened would hang this one.
USE = """
import sys
from pathlib import Path
from peav.media import MediaError, load_audio, load_frames, probe
for path in map(Path, sys.stdin.read().splitlines()):
    for source in (path, path.read_bytes()):
        for function in (probe, load_audio, load_frames):
            try:
                function(source)
                print(path.name, function.__name__, "fine")
            except MediaError as error:
                print(path.name, function.__name__, type(error).__name__)
"""


@pytest.fixture
def targets(tmp_path: Path) -> Iterator[Targets]:
    for name in ("folder", "elsewhere"):
        (tmp_path / name).mkdir()
    made = Targets(tmp_path / "folder", tmp_path / "elsewhere")
    with made.server:
        yield made


@pytest.fixture
def files(targets: Targets) -> list[Path]:
    """Every playlist under its own suffix, and as .wav and .mp4."""
    paths = []
    for name, content in playlists(targets).items():
        for path in (targets.folder / name, targets.folder / f"{name}.wav", targets.folder / f"{name}.mp4"):
            path.write_bytes(content)
            paths.append(path)
    assert targets.reached() == []
    return paths


def plainly(path: Path, **options: str) -> None:
    with suppress(av.FFmpegError), av.open(str(path), container_options=options, timeout=1.0) as container:
        for _ in container.demux():
            pass


@pytest.mark.slow
def test_what_a_plain_open_reaches_is_seen(targets: Targets, files: list[Path]) -> None:
    folder, network = targets.folder, {"protocol_whitelist": "file,http,tcp"}
    plainly(folder / "hls_beside.m3u8")
    assert targets.reached() == ["beside.ts"]
    plainly(folder / "concat_beside.ffconcat.wav")
    assert targets.reached() == ["beside.ts"]
    plainly(folder / "hls_http.m3u8", **network)
    assert set(targets.reached()) == {"a connection"}
    plainly(folder / "concat_tcp.ffconcat", safe="0", **network)
    assert set(targets.reached()) == {"a connection"}
    plainly(folder / "alias_elsewhere.mov", enable_drefs="1", use_absolute_path="1")
    assert targets.reached() == ["elsewhere.ts"]
    plainly(folder / "img%03d.png")
    assert set(targets.reached()) == {"img001.png"}
    for path, held in (subtitle_index(folder), lantern(folder)):
        watch = Watch([held])
        plainly(path)
        assert set(watch.opened()) == {held.name}


@pytest.mark.slow
def test_nothing_else_is_opened_by_path_or_as_bytes(targets: Targets, files: list[Path]) -> None:
    beside = [subtitle_index(targets.folder), lantern(targets.folder)]
    sequence = targets.folder / "img%03d.png"
    sequence.write_bytes(targets.picture.read_bytes())
    paths = [*files, *(path for path, _ in beside), sequence]
    watch = Watch(held for _, held in beside)
    targets.reached()
    command = [sys.executable, "-c", USE]
    done = subprocess.run(command, input="\n".join(map(str, paths)), capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert targets.reached() + watch.opened() == []
    results = [line.rsplit(" ", 2) for line in done.stdout.splitlines()]
    assert len(results) == 6 * len(paths)
    for name, function, result in results:
        if name.startswith(("movie", "alias")):  # QuickTime, but without a sample of its own
            assert result.endswith("Error") or (name.startswith("alias") and function == "probe"), (name, function)
        elif name == sequence.name:  # as bytes it is the one picture that it holds
            assert result in ("NotMediaError", "NoAudioStreamError", "fine")
        else:
            assert result == "NotMediaError", (name, function)


@pytest.mark.slow
def test_each_is_one_line_of_failures(targets: Targets, files: list[Path], tmp_path: Path) -> None:
    random_encoder().save_pretrained(tmp_path / "model")
    targets.reached()
    command = [sys.executable, "-m", "peav", "embed", *map(str, files), "-o", str(tmp_path / "lib.parquet")]
    done = subprocess.run([*command, "--model", str(tmp_path / "model")], capture_output=True, text=True, timeout=200)
    assert done.returncode == 1, done.stderr  # as every single file failed
    lines = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert sorted(line["path"] for line in lines) == sorted(map(str, files))
    assert targets.reached() == []


@pytest.mark.slow
def test_a_manifest_reaches_nothing_through_its_paths(targets: Targets, files: list[Path], tmp_path: Path) -> None:
    random_encoder().save_pretrained(tmp_path / "model")
    kinds = ("hls", "concat", "movie", "dash")
    paths = [path for path in files if path.name.split("_")[0] in kinds and path.suffix == ".wav"][:12]
    paths += [path for path in files if path.name.startswith(("alias", "session"))][:4]
    names = [*map(str, paths), *(targets.addresses()[kind] for kind in ("http", "tcp", "concat", "subfile"))]
    rows = [{"id": str(number), "path": name} for number, name in enumerate(names)]
    (targets.folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    targets.reached()
    command = [sys.executable, "-m", "peav", "prepare", str(targets.folder / "manifest.jsonl")]
    command += ["-o", str(tmp_path / "cache"), "--model", str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert targets.reached() == []
    lines = [json.loads(line) for line in (tmp_path / "cache" / "failures.jsonl").read_text().splitlines()]
    assert len(lines) == len(rows) == 20, done.stderr
