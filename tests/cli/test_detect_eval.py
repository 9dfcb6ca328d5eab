"""`peav detect eval` and `peav detect calibrate` on what `peav detect` found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peav.detector import Detector
from peav.events import Event, Postprocessing
from peav.events.formats import read_events, to_record, to_tsv
from peav.utils.text import counted

Run = Callable[..., Any]
SPLITS = (("a", "train"), ("b", "test"), ("c", "test"))


@pytest.mark.slow
def test_calibrated_thresholds_find_what_was_marked(
    as_json: Run, results: tuple[Path, Path], sounds: Path, frame_model: str, tmp_path: Path
) -> None:
    found, true = results
    fitted = as_json("detect", "calibrate", found, true, "-o", tmp_path / "t.json", "--min-events", 1)
    assert fitted["recordings"] == 2
    assert set(fitted["thresholds"]) == {"dog", "siren"}
    figures = as_json("detect", "eval", found / "scores", true, "--threshold", tmp_path / "t.json")
    (total,) = [row for row in figures["results"][0]["rows"] if row["label"] == "all together"]
    assert total["f1"] == total["segment_f1"] == 1.0
    again = as_json(
        "detect", sounds, "--labels", "dog,siren", "--threshold", tmp_path / "t.json", "--model", frame_model
    )
    heard = {Path(r["path"]).stem: {(e["label"], e["onset"]) for e in r["events"]} for r in again}
    assert heard == {n: {(e.label, e.onset) for e in events} for n, events in read_events(true).items()}


@pytest.mark.slow
def test_eval_of_recordings_listens_with_the_models_own_settings(
    as_json: Run, results: tuple[Path, Path], sounds: Path, frame_model: str, tmp_path: Path
) -> None:
    _, true = results
    detector = Detector.load(frame_model, device="cpu")
    detector.postprocessing = Postprocessing({"dog": 0.62, "siren": 0.55})  # what the truth was made with
    detector.save_pretrained(tmp_path / "model")
    perfect = as_json("detect", "eval", sounds, true, "--model", tmp_path / "model")
    rows = {row["label"]: row for row in perfect["results"][0]["rows"]}
    assert rows["all together"]["f1"] == rows["mean of labels"]["auroc"] == 1.0
    other = as_json("detect", "eval", sounds, true, "--model", tmp_path / "model", "--threshold", 0.9)
    assert other["results"][0]["rows"][-1]["f1"] < 1


def test_eval_judges_a_split_or_what_was_scored_and_says_so(
    as_json: Run, peav: Run, results: tuple[Path, Path], tmp_path: Path
) -> None:
    found, true = results
    events = read_events(true)
    rows = [{"path": f"{n}.wav", "split": s, "events": [to_record(e) for e in events.get(n, [])]} for n, s in SPLITS]
    rows[2]["events"] = rows[0]["events"]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def figures(*args: object) -> tuple[int, int]:
        report = as_json("detect", "eval", found / "detections.jsonl", manifest, *args)
        return report["recordings"], report["results"][0]["rows"][-1]["events"]

    count = {row["path"]: len(row["events"]) for row in rows}
    assert figures() == (3, sum(count.values()))
    assert figures("--split", "train") == (1, count["a.wav"])
    assert figures("--only-found") == (2, count["a.wav"] + count["b.wav"])
    assert "1 true recording not judged: counted as missed" in peav("detect", "eval", found, manifest).stderr
    shown = peav("detect", "eval", found, manifest, "--split", "train")
    assert "1 recording of split train" in shown.stdout
    assert "not judged" not in shown.stderr
    absent = peav("detect", "eval", found, manifest, "--split", "dev")
    assert absent.exit_code == 2
    assert "no recording is of split 'dev'" in absent.stderr
    assert "has no splits" in peav("detect", "eval", found, true, "--split", "dev").stderr


@pytest.mark.slow
def test_calibrate_leaves_out_labels_whose_threshold_says_little_and_names_them(
    as_json: Run, peav: Run, results: tuple[Path, Path], frame_model: str, sounds: Path, tmp_path: Path
) -> None:
    found, true = results
    count = Counter(event.label for events in read_events(true).values() for event in events)
    assert count["dog"] != count["siren"]
    (fewer, few), (more, many) = sorted(count.items(), key=lambda item: item[1])
    run = ("detect", "calibrate", found, true, "-o", tmp_path / "t.json", "--min-events", many)
    fitted = as_json(*run)
    assert set(fitted["thresholds"]) == {more}
    assert fitted["left_out"] == {fewer: f"{counted(few, 'event')}"}
    assert f"{fewer} ({few} events)" in peav(*run).stderr
    # Such a label keeps the model's own.
    detector = Detector.load(frame_model, device="cpu")
    detector.postprocessing = Postprocessing(1.0)
    detector.save_pretrained(tmp_path / "model")
    options = ("--labels", "dog,siren", "--threshold", tmp_path / "t.json", "--model", tmp_path / "model")
    heard = as_json("detect", sounds, *options)
    assert {event["label"] for file in heard for event in file["events"]} == {more}


def test_eval_has_scores_figures_where_there_are_scores(
    as_json: Run, peav: Run, results: tuple[Path, Path], tmp_path: Path
) -> None:
    found, true = results
    detection, psds = as_json("detect", "eval", found, true)["results"]
    rows = {row["label"]: row for row in detection["rows"]}
    assert rows["dog"]["auroc"] == 1.0
    assert rows["mean of labels"]["auroc"] == 1.0
    assert 0 < rows["all together"]["f1"] <= 1
    assert psds["title"] == "PSDS"
    without = as_json("detect", "eval", found / "detections.jsonl", true)["results"]
    assert len(without) == 1
    assert {row["label"]: row.get("f1") for row in without[0]["rows"]} == {
        name: row.get("f1") for name, row in rows.items()
    }
    assert "| dog |" in peav("detect", "eval", found, true, "--markdown").stdout
    assert "AUROC" in peav("detect", "eval", found, true).stdout


def test_true_labels_that_were_not_asked_for_are_said_and_a_psds_of_zero_is_explained(
    peav: Run, results: tuple[Path, Path], tmp_path: Path
) -> None:
    found, true = results
    plain = peav("detect", "eval", found, true).output
    assert "asked for" not in plain
    assert "PSDS 0.0" not in plain
    events = read_events(true)
    marked = [*events["a"], Event("cat", 0.1, 0.2), Event("cat", 0.5, 0.6), Event("bird", 0.1, 0.3)]
    (tmp_path / "more.tsv").write_text(to_tsv({"a.wav": marked, "b.wav": events["b"]}))
    told = peav("detect", "eval", found, tmp_path / "more.tsv").stderr
    assert told == "note: 3 true events of 2 labels that were not asked for: left out (bird, cat)\n"
    # One label is found, the other one never.
    lost = [replace(event, onset=event.offset, offset=event.offset + 1e-3) for event in events["a"]]
    (tmp_path / "zero.tsv").write_text(to_tsv({"a.wav": [e for e in lost if e.label == "dog"], "b.wav": []}))
    for options in ((), ("--markdown",)):
        told = peav("detect", "eval", found, tmp_path / "zero.tsv", *options).stdout
        assert sum(line.startswith("PSDS 0.0: ") for line in told.splitlines()) == 1
