"""`peav embed`, `peav search` and `peav classify` on real files."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from media.make import bad_files, good_files, tone, write_audio
from random_model import random_encoder
from typer.testing import Result

Run = Callable[..., Any]


@pytest.mark.slow
def test_a_folder_of_mixed_media_becomes_rows(library: Path, folder: Path) -> None:
    rows = pq.read_table(library).to_pylist()
    found = sorted((Path(row["path"]).relative_to(folder).as_posix(), row["modality"], row["start"]) for row in rows)
    assert found == [
        ("more/both.mp4", "audio_video", 0.0),
        ("more/long.flac", "audio", 0.0),
        ("more/long.flac", "audio", 2.0),
        ("more/long.flac", "audio", 4.0),
        ("silent.mp4", "video", 0.0),
        ("sound.wav", "audio", 0.0),
    ]
    for row in rows:
        spaces = {space for space in ("audio", "video", "audio_video") if row[space] is not None}
        wanted = {"audio", "video", "audio_video"} if row["modality"] == "audio_video" else {row["modality"]}
        assert spaces == wanted
        assert (row["size"], row["mtime"]) == (os.stat(row["path"]).st_size, os.stat(row["path"]).st_mtime_ns)
    assert not library.with_name("failures.jsonl").exists()


def test_the_library_holds_what_the_encoder_gives(library: Path) -> None:
    encoder = random_encoder()
    for row in pq.read_table(library).to_pylist():
        if row["modality"] == "audio_video":
            wanted = encoder.encode_audio_video(row["path"], window=2.0)
            assert np.allclose(row["audio_video"], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_every_bad_file_is_one_line_and_every_good_one_is_embedded(model: str, tmp_path: Path, as_json: Run) -> None:
    bad = bad_files(tmp_path / "media" / "bad")
    good = good_files(tmp_path / "media" / "good")
    absent = tmp_path / "absent.wav"
    # Named outright, since a folder is searched for regular media files only.
    named = [tmp_path / "media", *(path for path, _ in bad.values()), absent]
    summary = as_json("embed", *named, "-o", tmp_path / "lib.parquet", "--model", model)
    lines = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert len(bad) >= 15
    wanted = sorted([(str(path), error.__name__) for path, error in bad.values()] + [(str(absent), "MissingFileError")])
    assert sorted((line["path"], line["error"]) for line in lines) == wanted
    assert all(Path(line["path"]).name in line["reason"] for line in lines)
    assert (summary["failed"], summary["embedded"]) == (len(bad) + 1, len(good))
    assert set(pq.read_table(tmp_path / "lib.parquet")["path"].to_pylist()) == {str(path) for path in good}


@pytest.mark.slow
def test_a_second_run_skips_and_a_changed_file_is_embedded_again(model: str, tmp_path: Path, as_json: Run) -> None:
    files = [write_audio(tmp_path / f"{i}.wav", tone(0.2, seed=i)) for i in range(3)]
    run = ("embed", tmp_path, "-o", tmp_path / "lib.parquet", "--model", model)
    assert as_json(*run, "--limit", 2)["embedded"] == 2
    second = as_json(*run)
    assert (second["embedded"], second["skipped"], second["library_rows"]) == (1, 2, 3)
    before = (tmp_path / "lib.parquet").read_bytes()
    assert as_json(*run)["embedded"] == 0
    assert (tmp_path / "lib.parquet").read_bytes() == before
    write_audio(files[0], tone(0.3, seed=9))
    third = as_json(*run)
    assert (third["embedded"], third["skipped"], third["library_rows"]) == (1, 2, 3)
    assert as_json(*run, "--no-resume")["embedded"] == 3


def begun(args: tuple[str, ...], library: Path) -> subprocess.Popen[str]:
    """`peav embed` in a process of its own, some files of which are done and on the disk, and many are not."""
    code = """if True:
        import signal, time
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may ignore it
        import peav.jobs, peav.search.library as library
        peav.jobs.SECONDS = 0.0
        save = library.LibraryWriter.save
        library.LibraryWriter.save = lambda self: (save(self), time.sleep(0.2))  # a slow model, so that there is time
        from peav.cli.main import app
        app()"""
    running = subprocess.Popen([sys.executable, "-c", code, *args], stderr=subprocess.PIPE, text=True)
    part = library.with_name(library.name + ".parts") / "000000.parquet"
    while not part.exists() or pq.read_metadata(part).num_rows < 8:
        assert running.poll() is None
        time.sleep(0.01)
    return running


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(as_json: Run, model: str, tmp_path: Path) -> None:
    files = [write_audio(tmp_path / f"{i:03d}.wav", tone(0.2, seed=i)) for i in range(60)]
    library = tmp_path / "lib.parquet"
    args = ("embed", str(tmp_path), "-o", str(library), "--model", model, "--batch-size", "1")
    with begun(args, library) as running:
        running.kill()
    assert not library.exists()
    summary = as_json(*args)
    assert summary["skipped"] > 0
    assert summary["embedded"] == len(files) - summary["skipped"]
    assert sorted(pq.read_table(library)["path"].to_pylist()) == sorted(map(str, files))


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_keeps_what_is_done_and_says_so(
    as_json: Run, model: str, tmp_path: Path, signum: signal.Signals
) -> None:
    files = [write_audio(tmp_path / f"{i:03d}.wav", tone(0.2, seed=i)) for i in range(60)]
    library, parts = tmp_path / "lib.parquet", tmp_path / "lib.parquet.parts"
    args = ("embed", str(tmp_path), "-o", str(library), "--model", model, "--batch-size", "1")
    with begun(args, library) as running:
        running.send_signal(signum)
        _, said = running.communicate()
    assert running.returncode == 128 + signum
    last = said.strip().splitlines()[-1]
    kept = int(last.removeprefix("stopped: ").split()[0])
    assert last.startswith(f"stopped: {kept} files (")
    assert last.endswith(f" of this run are kept in {parts}; run the same command again, it goes on")
    assert "Traceback" not in said
    summary = as_json(*args)
    assert summary["skipped"] - kept in (0, 1)  # a file may be on the disk, and not yet counted
    assert summary["embedded"] == len(files) - summary["skipped"]
    assert sorted(pq.read_table(library)["path"].to_pylist()) == sorted(map(str, files))


@pytest.mark.slow
def test_three_files_that_break_their_decoder_in_three_hundred_are_three_lines(
    as_json: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the first run, in real worker processes; a rerun does nothing."""
    media = tmp_path / "media"
    media.mkdir()
    hostile = {"crash": "DecoderCrashError", "hang": "DecodingTimeoutError", "eat": "DecodingMemoryError"}
    for place in range(297):
        write_audio(media / f"{place:03d}.wav", tone(0.1, seed=place))
    for name, place in zip(hostile, (50, 150, 250), strict=True):
        (media / f"{place:03d}-{name}.wav").write_bytes((media / "000.wav").read_bytes())
    monkeypatch.setenv("PEAV_WORKER_HOOK", "hostile_decoder:decode")
    monkeypatch.setenv("PEAV_DECODE_IDLE_SECONDS", "3")
    monkeypatch.setenv("PEAV_DECODE_MEMORY", str(200 << 20))
    run = ("embed", media, "-o", tmp_path / "lib.parquet", "--model", model)
    first = as_json(*run)
    assert (first["embedded"], first["failed"]) == (297, 3)
    assert first["failures"] == dict.fromkeys(hostile.values(), 1)
    lines = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert {Path(line["path"]).stem.split("-")[1]: line["error"] for line in lines} == hostile
    before = (tmp_path / "lib.parquet").read_bytes(), (tmp_path / "failures.jsonl").read_bytes()
    second = as_json(*run)
    counts = [second[key] for key in ("embedded", "failed", "skipped", "failed_before")]
    assert counts == [0, 0, 297, 3]
    assert ((tmp_path / "lib.parquet").read_bytes(), (tmp_path / "failures.jsonl").read_bytes()) == before


@pytest.mark.slow
def test_a_full_disk_is_one_line_that_names_the_file(model: str, tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", tone(0.2))
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from peav.cli.main import app; from peav.search import LibraryWriter as W; old = W.add\n"
        "def add(self, row):\n    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)); old(self, row)\n"
        "W.add = add; app()"
    )
    args = ("embed", str(tmp_path), "-o", str(tmp_path / "lib.parquet"), "--model", model)
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "lib.parquet.parts/000000.parquet" in last
    assert "make room there and run the same command again" in last


def test_a_name_that_is_not_utf8_is_a_failure_and_not_the_end(model: str, tmp_path: Path, as_json: Run) -> None:
    good = write_audio(tmp_path / "good.wav", tone(0.2))
    latin = tmp_path / os.fsdecode(b"caf\xe9.wav")
    try:
        latin.write_bytes(good.read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    summary = as_json("embed", tmp_path, "-o", tmp_path / "lib.parquet", "--model", model)
    assert (summary["embedded"], summary["failures"]) == (1, {"UnsupportedInputError": 1})
    assert json.loads((tmp_path / "failures.jsonl").read_text())["path"] == str(latin)


@pytest.mark.slow
def test_files_that_failed_before_make_way_for_the_rest(model: str, tmp_path: Path, as_json: Run) -> None:
    media = tmp_path / "media"
    media.mkdir()
    bad = [media / f"{i}.wav" for i in range(3)]
    for path in bad:
        path.write_text("hello")
    write_audio(media / "9.wav", tone(0.2))
    run = ("embed", media, "-o", tmp_path / "lib.parquet", "--model", model, "--limit", 2)

    def counts(*more: str) -> tuple[int, int, int, int]:
        summary = as_json(*run, *more)
        return summary["embedded"], summary["skipped"], summary["failed"], summary["failed_before"]

    write_audio(media / "00.wav", tone(0.2, seed=1))  # so that the first run has something to show
    assert counts() == (1, 0, 1, 0)
    with (tmp_path / "failures.jsonl").open("a") as torn:
        torn.write('{"path": "')
    assert counts() == (0, 1, 2, 1)
    assert counts() == (1, 1, 0, 3)
    assert counts() == (0, 2, 0, 3)
    write_audio(bad[0], tone(0.3, seed=2))
    assert counts() == (1, 2, 0, 2)
    bad[1].write_text("hello again")
    assert counts() == (0, 3, 1, 1)
    assert counts("--no-resume", "--limit", "9") == (3, 0, 2, 0)


def test_nothing_but_files_that_failed_before_is_exit_code_1_and_said(peav: Run, model: str, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    for said in ("1 failed (1 NotMediaError)", "1 failed before and have not changed"):
        result = peav("embed", tmp_path, "-o", tmp_path / "lib.parquet", "--model", model)
        assert result.exit_code == 1
        assert said in " ".join(result.stdout.split())


def test_another_window_is_refused(peav: Run, library: Path, folder: Path, model: str) -> None:
    one_line(peav("embed", folder, "-o", library, "--model", model, "--window", 3), "give a window of 2.0 s, or")


def test_nothing_but_bad_files_is_exit_code_1(peav: Run, model: str, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    result = peav("embed", tmp_path, "-o", tmp_path / "lib.parquet", "--model", model)
    assert result.exit_code == 1
    assert "1 failed (1 NotMediaError)" in " ".join(result.stdout.split())


def test_a_file_finds_itself_first(as_json: Run, library: Path, folder: Path) -> None:
    for option, name in (("--audio", "sound.wav"), ("--video", "silent.mp4"), ("--video", "more/both.mp4")):
        hits = as_json("search", library, option, folder / name)
        assert hits[0]["path"] == str(folder / name)
        assert hits[0]["score"] == pytest.approx(1.0, abs=1e-4)
        assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)


def test_a_moment_of_a_long_file_is_found_with_its_time(as_json: Run, library: Path, tmp_path: Path) -> None:
    moment = write_audio(tmp_path / "moment.wav", tone(5.0, seed=4)[:, ::-1][:, 2 * 48000 : 4 * 48000])
    best = as_json("search", library, "--audio", moment, "--top", 1)[0]
    assert (Path(best["path"]).name, best["start"], best["end"]) == ("long.flac", 2.0, 4.0)


def test_words_search_every_modality_and_spaces_narrow_it(as_json: Run, library: Path) -> None:
    everything = as_json("search", library, "a dog barking")
    assert {hit["space"] for hit in everything} == {"audio", "video", "audio_video"}
    assert len(everything) == 6
    pictures = as_json("search", library, "a dog barking", "--space", "video")
    assert sorted(Path(hit["path"]).name for hit in pictures) == ["both.mp4", "silent.mp4"]


def test_text_with_a_recording_searches_the_other_medium(as_json: Run, library: Path, folder: Path) -> None:
    found = as_json("search", library, "--audio", folder / "sound.wav", "--text", "a red car")
    assert {hit["space"] for hit in found} == {"video"}
    found = as_json("search", library, "--video", folder / "silent.mp4", "--text", "rain")
    assert {hit["space"] for hit in found} == {"audio"}
    assert {
        hit["space"] for hit in as_json("search", library, "--audio", folder / "sound.wav", "--space", "video")
    } == {"video"}


def test_search_prints_a_table(peav: Run, library: Path) -> None:
    result = peav("search", library, "rain", "--top", 3)
    assert result.exit_code == 0
    assert "0:02.0 - 0:04.0" in result.stdout or "0:00.0" in result.stdout
    assert "score" in result.stdout


@pytest.mark.slow
def test_another_model_is_refused_even_where_one_weight_of_one_tower_differs(
    peav: Run, library: Path, tmp_path: Path
) -> None:
    random_encoder(seed=1).save_pretrained(tmp_path / "other")
    tower = random_encoder()
    with torch.no_grad():
        next(tower.model.audio.parameters()).view(-1)[0] += 1
    tower.save_pretrained(tmp_path / "tower")
    for name in ("other", "tower"):
        result = peav("search", library, "rain", "--model", tmp_path / name)
        one_line(result, "made by model")


@pytest.mark.slow
def test_classify_ranks_the_labels_of_each_file(
    peav: Run, as_json: Run, folder: Path, model: str, tmp_path: Path
) -> None:
    (tmp_path / "labels.txt").write_text("dog\nrain\n\nred_car\ndog\n")
    (tmp_path / "bad.wav").write_text("hello")
    options = ("--labels-file", tmp_path / "labels.txt", "--prompt", "the sound of {}", "--model", model)
    results = as_json("classify", folder / "sound.wav", folder / "more", tmp_path / "bad.wav", *options)
    printed = peav("classify", folder / "sound.wav", tmp_path / "bad.wav", *options, "--top", 2, "--csv").stdout
    lines = list(csv.DictReader(io.StringIO(printed)))
    assert [Path(result["path"]).name for result in results] == ["sound.wav", "both.mp4", "long.flac", "bad.wav"]
    by_name = {Path(result["path"]).name: result for result in results}
    assert [line["label"] for line in lines] == [one["label"] for one in by_name["sound.wav"]["labels"][:2]] + [""]
    assert lines[-1]["error"] == by_name["bad.wav"]["error"]
    assert "not audio or video" in by_name["bad.wav"]["error"]
    for name, space in (("sound.wav", "audio"), ("both.mp4", "audio_video"), ("long.flac", "audio")):
        labels = by_name[name]["labels"]
        assert by_name[name]["space"] == space
        assert sorted(entry["label"] for entry in labels) == ["dog", "rain", "red_car"]
        assert sum(entry["probability"] for entry in labels) == pytest.approx(1.0)
        assert labels[0]["label"] == by_name[name]["label"]
    encoder = random_encoder()
    texts = encoder.encode_text([f"the sound of {label}" for label in ("dog", "rain", "red car")], "audio")
    logits = encoder.logits(encoder.encode(folder / "sound.wav"), texts, "a_avc")
    wanted = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    found = {entry["label"]: entry["probability"] for entry in by_name["sound.wav"]["labels"]}
    assert np.allclose([found["dog"], found["rain"], found["red_car"]], wanted, atol=1e-4)


def one_line(result: Result, reason: str) -> None:
    """The promise of every error: exit code 2, one line on stderr, no traceback."""
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error:")
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("search", "absent.parquet", "rain"), "no such library"),
        (("search", "{library}"), "nothing to look for"),
        (("search", "{library}", "--audio", "a.wav", "--video", "b.mp4"), "not both"),
        (("search", "{library}", "rain", "--text", "wind"), "two texts, 'rain' and --text 'wind'; give one"),
        (("search", "{library}", "rain", "--text", "wind", "--audio", "a.wav"), "two texts"),
        (("search", "{library}", "--audio", "absent.wav"), "absent.wav: no such file"),
        (("search", "{library}", "--audio", "a.wav", "--text", "x", "--space", "audio"), "leave space away"),
        (("embed", "absent-folder", "-o", "x.parquet"), "absent-folder: no such file"),
        (("classify", "{library}", "--labels", " , "), "no labels"),
        (("classify", "{library}"), "--labels"),
        (("classify", "{library}", "--labels", "a,b", "--prompt", "sound"), "--prompt"),
        (("convert", "absent-model", "out", "--to", "peav"), "absent-model"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(
    peav: Run, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    one_line(peav(*(arg.format(library=library) for arg in args)), reason)
