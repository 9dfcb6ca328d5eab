"""`peav detect` on real files."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media.make import bad_files, tone, write_audio
from PIL import Image
from typer.testing import CliRunner

from peav import jobs
from peav.cli.main import app
from peav.detector import Detector
from peav.events import Event, Postprocessing, find_events
from peav.events.formats import read_events, read_scores, to_audacity, to_tsv, to_vtt
from peav.events.names import unique_names
from peav.inference.streaming import FrameStream
from peav.utils.lock import FolderLock

Run = Callable[..., Any]
LABELS = ("--labels", "dog,siren", "--threshold", "0.5")


@pytest.fixture(scope="module")
def wanted(frame_model: str, sounds: Path) -> dict[str, list[Event]]:
    """What the Python interface finds."""
    detector = Detector.load(frame_model, device="cpu")
    return {path.stem: detector.detect(path, ["dog", "siren"], 0.5) for path in sorted(sounds.rglob("*.*"))}


def rounded(events: list[Event]) -> list[tuple[str, float, float, float]]:
    return [(e.label, round(e.onset, 3), round(e.offset, 3), round(e.score, 4)) for e in events]


@pytest.mark.slow
def test_json_on_stdout_is_what_python_finds(
    as_json: Run, frame_model: str, sounds: Path, wanted: dict[str, list[Event]], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("hello")
    results = as_json("detect", sounds, bad, tmp_path / "absent.wav", *LABELS, "--model", frame_model)
    by_name = {Path(result["path"]).stem: result for result in results}
    assert "not audio or video" in by_name["bad"]["error"]
    assert "no such file" in by_name["absent"]["error"]
    for name, events in wanted.items():
        assert rounded([Event(**event) for event in by_name[name]["events"]]) == rounded(events)
    assert by_name["b"]["duration"] == pytest.approx(1.5)
    assert any(wanted.values())


@pytest.mark.slow
def test_csv_holds_what_json_holds(peav: Run, as_json: Run, frame_model: str, sounds: Path) -> None:
    options = (sounds, *LABELS, "--model", frame_model)
    results = as_json("detect", *options)
    wanted = [(one["path"], *map(str, event.values())) for one in results for event in one["events"]]
    lines = list(csv.DictReader(io.StringIO(peav("detect", *options, "--csv").stdout)))
    names = ("path", "label", "onset", "offset", "score")
    assert [tuple(line[name] for name in names) for line in lines] == wanted


@pytest.mark.slow
def test_tables_and_text_formats_on_stdout(
    peav: Run, frame_model: str, sounds: Path, wanted: dict[str, list[Event]]
) -> None:
    def stdout(*args: object) -> str:
        result = peav("detect", *LABELS, *args, "--model", frame_model)
        assert result.exit_code == 0, result.output
        return str(result.stdout)

    table = stdout(sounds)
    assert "dog" in table
    assert "score" in table
    assert stdout(sounds, "--format", "tsv") == to_tsv({"a.wav": wanted["a"], "b.flac": wanted["b"]})
    assert stdout(sounds / "a.wav", "--format", "audacity") == to_audacity(wanted["a"])
    assert stdout(sounds / "a.wav", "--format", "vtt") == to_vtt(wanted["a"])
    assert "none of these was heard" in stdout(sounds / "a.wav", "--threshold", "1")


@pytest.mark.slow
def test_postprocessing_options_reach_the_events(as_json: Run, frame_model: str, sounds: Path) -> None:
    options = ("--median", "0.2", "--low", "0.5", "--min-gap", "0.12", "--min-length", "0.08")
    (result,) = as_json("detect", sounds / "a.wav", *LABELS, *options, "--model", frame_model)
    scores = Detector.load(frame_model, device="cpu").scores(sounds / "a.wav", ["dog", "siren"])
    found = find_events(scores, Postprocessing(0.5, 0.5, 0.2, 0.12, 0.08))
    assert rounded([Event(**event) for event in result["events"]]) == rounded(found)


@pytest.mark.slow
def test_a_prompt_or_a_labels_file_decides_what_the_model_reads(
    as_json: Run, frame_model: str, sounds: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "labels.txt"
    listed.write_text("dog\tthe sound of dog\n\nsiren\n")
    out = tmp_path / "out"
    as_json("detect", sounds / "a.wav", "--labels-file", listed, "-o", out, "--scores", "--model", frame_model)
    scores = read_scores(out / "scores" / "a.tsv")
    assert scores.labels == ("dog", "siren")
    detector = Detector.load(frame_model, device="cpu")
    texts = {"dog": "the sound of dog", "siren": "siren"}
    assert np.array_equal(scores.probabilities, detector.scores(sounds / "a.wav", texts).probabilities)
    words = ("--labels", "dog", "--prompt", "the sound of {}")
    as_json("detect", sounds / "a.wav", *words, "-o", tmp_path / "p", "--scores", "--model", frame_model)
    again = read_scores(tmp_path / "p" / "scores" / "a.tsv")
    assert np.allclose(again.row("dog"), scores.row("dog"), atol=1e-6)


def test_a_label_is_read_without_its_underscores_as_in_python(
    as_json: Run, frame_model: str, sounds: Path, tmp_path: Path
) -> None:
    options = ("--labels", "dog_bark", "-o", tmp_path / "out", "--scores", "--model", frame_model)
    as_json("detect", sounds / "a.wav", *options)
    scores = Detector.load(frame_model, device="cpu").scores(sounds / "a.wav", ["dog_bark"])
    assert np.array_equal(read_scores(tmp_path / "out" / "scores" / "a.tsv").probabilities, scores.probabilities)


@pytest.mark.slow
def test_a_folder_of_results_goes_on_where_it_was(
    as_json: Run, frame_model: str, sounds: Path, wanted: dict[str, list[Event]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = ("detect", sounds, *LABELS, "--model", frame_model, "-o", out)
    assert as_json(*run, "--limit", 1)["detected"] == 1
    second = as_json(*run)
    assert (second["detected"], second["skipped"]) == (1, 1)
    assert {name: rounded(events) for name, events in read_events(out / "detections.jsonl").items()} == {
        name: rounded(events) for name, events in wanted.items()
    }
    before = (out / "detections.jsonl").read_bytes()
    assert as_json(*run)["detected"] == 0
    assert (out / "detections.jsonl").read_bytes() == before
    # A torn last line, a file that is missing, other settings: each is done again.
    (out / "detections.jsonl").write_bytes(before[:-10])
    assert as_json(*run)["detected"] == 1
    assert as_json(*run, "--format", "vtt")["detected"] == 2
    (out / "a.vtt").unlink()
    assert as_json(*run, "--format", "vtt")["detected"] == 1
    assert as_json(*run, "--min-gap", 0.1)["detected"] == 2
    assert as_json(*run, "--min-gap", 0.1, "--no-resume")["detected"] == 2
    assert len((out / "detections.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_changed_file_is_listened_to_again(as_json: Run, frame_model: str, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", tone(0.5))
    run = ("detect", path, *LABELS, "--model", frame_model, "-o", tmp_path / "out")
    as_json(*run)
    write_audio(path, tone(0.8))
    assert as_json(*run)["detected"] == 1
    (line,) = map(json.loads, (tmp_path / "out" / "detections.jsonl").read_text().splitlines())
    assert line["duration"] == pytest.approx(0.8)


@pytest.mark.slow
def test_bad_files_are_listed_and_the_rest_goes_on(as_json: Run, peav: Run, frame_model: str, tmp_path: Path) -> None:
    bad = bad_files(tmp_path / "bad")
    good = write_audio(tmp_path / "good.wav", tone(0.3))
    run = ("detect", good, *(path for path, _ in bad.values()), *LABELS, "--model", frame_model, "-o", tmp_path / "out")
    summary = as_json(*run)
    assert (summary["detected"], summary["failed"]) == (1, len(bad))
    lines = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert {line["path"] for line in lines} == {str(path) for path, _ in bad.values()}
    assert all(Path(line["path"]).name in line["reason"] for line in lines)
    again = as_json(*run)
    assert (again["detected"], again["failed"], again["failed_before"]) == (0, 0, len(bad))
    only_bad = peav("detect", next(iter(bad.values()))[0], *LABELS, "--model", frame_model)
    assert only_bad.exit_code == 1


def test_a_name_that_is_not_utf8_is_a_failure_and_not_the_end(as_json: Run, frame_model: str, tmp_path: Path) -> None:
    good = write_audio(tmp_path / "good.wav", tone(0.2))
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.wav")).write_bytes(good.read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    summary = as_json("detect", tmp_path, *LABELS, "--model", frame_model, "-o", tmp_path / "out")
    assert (summary["detected"], summary["failed"]) == (1, 1)


@pytest.mark.slow
def test_timelines_of_one_file_and_of_several_are_named(
    as_json: Run, peav: Run, frame_model: str, sounds: Path, tmp_path: Path
) -> None:
    one, page = tmp_path / "one.png", tmp_path / "one.html"
    as_json("detect", sounds / "a.wav", *LABELS, "--model", frame_model, "--plot", one, "--html", page)
    with Image.open(one) as image:
        assert image.width == 1600
    assert "data:audio/mp4;base64," in page.read_text()
    many = ("--plot", tmp_path / "many.png", "--html", tmp_path / "many.html")
    said = peav("detect", sounds, *LABELS, "--model", frame_model, *many).stderr
    names = [f"many-{name}.{suffix}" for name in ("a", "b") for suffix in ("png", "html")]
    assert {path.name for path in tmp_path.glob("many*")} == set(names)
    assert said.splitlines() == [f"written: {tmp_path / name}" for name in names]


def test_results_of_files_that_share_a_name_have_names_of_their_own() -> None:
    paths = [Path("/x/a.wav"), Path("/x/b.wav"), Path("/x/b.mp3"), Path("/y/c.wav"), Path("/z/c.wav")]
    assert list(unique_names(paths).values()) == ["a", "b.wav", "b.mp3", "y_c.wav", "z_c.wav"]
    alike = [Path("/x/a_b/c.wav"), Path("/x/a/b/c.wav"), Path("/x/a/b_c.wav")]
    named = unique_names(alike)
    names = [named[path] for path in alike]
    assert names[2] == "b_c"
    assert len(set(names)) == 3
    assert all(name.startswith("x_a_b_c.wav-") for name in names[:2])


def test_one_process_at_a_time_writes_to_a_folder(peav: Run, as_json: Run, frame_model: str, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", tone(0.3))
    run = ("detect", path, *LABELS, "--model", frame_model, "-o", tmp_path / "out")
    lock = FolderLock(tmp_path / "out")
    refused = peav(*run)
    assert refused.exit_code == 2
    assert "another process is writing to it" in refused.stderr
    lock.release()
    assert as_json(*run)["detected"] == 1
    assert {entry.name for entry in (tmp_path / "out").iterdir()} == {"detections.jsonl", "postprocessing.json"}


@pytest.mark.slow
def test_a_recording_goes_on_where_it_was_with_the_same_scores_bit_for_bit(
    as_json: Run, frame_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_audio(tmp_path / "long.wav", tone(75.0))
    options = ("detect", path, *LABELS, "--model", frame_model, "--scores", "--format", "json")
    as_json(*options, "-o", tmp_path / "whole")
    pushed: list[int] = []
    push = FrameStream.push

    def stopped(self: FrameStream, samples: Any) -> Any:
        pushed.append(1)
        if len(pushed) == 6:
            raise RuntimeError("the power is off")
        return push(self, samples)

    monkeypatch.setattr(jobs, "SECONDS", 0.0)
    monkeypatch.setattr(FrameStream, "push", stopped)
    with pytest.raises(RuntimeError, match="the power is off"):
        CliRunner().invoke(app, [*map(str, options), "-o", str(tmp_path / "out")], catch_exceptions=False)
    pushed.clear()
    as_json(*options, "-o", tmp_path / "out")
    assert len(pushed) == 3  # of eight blocks of ten seconds
    for name in ("scores/long.tsv", "long.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "out" / "unfinished.pt").exists()


@pytest.mark.slow
def test_a_file_that_crashes_its_decoder_is_one_line(
    as_json: Run, frame_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "crash", "b"):
        write_audio(tmp_path / "in" / f"{name}.wav", tone(0.3))
    monkeypatch.setenv("PEAV_WORKER_HOOK", "hostile_decoder:decode")
    run = ("detect", tmp_path / "in", *LABELS, "--model", frame_model, "-o", tmp_path / "out")
    summary = as_json(*run)
    assert (summary["detected"], summary["failed"]) == (2, 1)
    (line,) = map(json.loads, (tmp_path / "out" / "failures.jsonl").read_text().splitlines())
    assert (Path(line["path"]).name, line["error"]) == ("crash.wav", "DecoderCrashError")
    assert as_json(*run)["failed_before"] == 1


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("{a}",), "--labels"),
        (("{a}", "--labels", " , "), "no labels"),
        (("{a}", "--labels", "dog", "--prompt", "sound"), "--prompt"),
        (("{a}", "--labels", "dog", "--threshold", "2"), "from 0 to 1"),
        (("{a}", "--labels", "dog", "--threshold", "absent.json"), "absent.json"),
        (("{a}", "--labels", "dog", "--scores"), "-o"),
        (("{folder}", "--labels", "dog", "--format", "vtt"), "holds one file"),
        (("{a}", "--labels", "dog", "--model", "absent-model"), "absent-model"),
        (("eval", "{true}", "{a}"), "a.wav"),
        (("eval", "absent", "{true}"), "absent: no such file"),
        (("calibrate", "{true}", "{true}", "-o", "t.json"), "--scores"),
        (("calibrate", "{found}", "{other}", "-o", "t.json"), "both sides"),
        (("eval", "{found}", "{other}"), "both sides"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(
    peav: Run,
    frame_model: str,
    sounds: Path,
    results: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.tsv").write_text(to_tsv({"z.wav": [Event("dog", 0, 1)]}))
    places = {"a": sounds / "a.wav", "folder": sounds, "found": results[0], "true": results[1], "other": "other.tsv"}
    model = () if args[0] in ("eval", "calibrate") or "--model" in args else ("--model", frame_model)
    result = peav("detect", *(arg.format(**places) for arg in args), *model)
    assert result.exit_code == 2, result.output
    assert reason in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error:")


def test_both_words_of_a_verb_have_their_own_help(peav: Run) -> None:
    for verb in ((), ("eval",), ("calibrate",)):
        text = peav("detect", *verb, "--help").stdout
        assert "--json" in text
        assert " ".join(("detect", *verb)) in text
