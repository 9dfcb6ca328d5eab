"""Text that users write, as the verbs read it; no model is loaded here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from peav.cli.main import app
from peav.cli.options import label_texts
from peav.events import FrameScores
from peav.events.formats import write_scores
from peav.events.names import unique_names


def test_a_labels_file_from_another_system_has_the_same_labels(shared: Path, tmp_path: Path) -> None:
    wanted = {"dog barking": "dog barking", "siren": "siren"}
    assert label_texts(None, shared / "cases" / "labels_bom.txt", "{}") == wanted
    (tmp_path / "l.txt").write_bytes("dog\u2028bark\tit barks\r\n\r\nsiren\r\n".encode("utf-8-sig"))
    assert label_texts(None, tmp_path / "l.txt", "{}") == {"dog\u2028bark": "it barks", "siren": "siren"}
    (tmp_path / "l.txt").write_text("dog", encoding="utf-16")
    with pytest.raises(ValueError, match=r"l\.txt: UTF-16; save it as UTF-8"):
        label_texts(None, tmp_path / "l.txt", "{}")


def judged(tmp_path: Path, truth: Path, *paths: str) -> tuple[int, str]:
    """The exit code and the output of `peav detect eval` on detections that are right for every path."""
    times = {"home": (0.0, 1.0), "street": (5.0, 6.0)}
    with open(tmp_path / "found.jsonl", "w") as file:
        for path in paths:
            onset, offset = times[Path(path).parent.name]
            file.write(
                json.dumps({"path": path, "events": [{"label": "dog", "onset": onset, "offset": offset}]}) + "\n"
            )
    run = CliRunner().invoke(app, ["detect", "eval", str(tmp_path / "found.jsonl"), str(truth), "--json"])
    return run.exit_code, run.output if run.exit_code == 0 else run.output + str(run.exception)


def test_recordings_of_one_file_name_are_judged_apart(shared: Path, tmp_path: Path) -> None:
    truth = shared / "cases" / "t_stem.tsv"
    for paths, recall in ((("/x/home/1.wav", "/x/street/1.wav"), 1.0), (("/x/street/1.flac",), 0.5)):
        code, output = judged(tmp_path, truth, *paths)
        assert code == 0, output
        (row, *_) = json.loads(output[output.index("{") :])["results"][0]["rows"]
        assert (row["label"], row["events"], row["recall"], row["precision"]) == ("dog", 2, recall, 1.0)
    (tmp_path / "truth.tsv").write_text("filename\tonset\toffset\tevent_label\n1.wav\t0\t1\tdog\n")
    code, output = judged(tmp_path, tmp_path / "truth.tsv", "/x/home/1.wav", "/x/street/1.wav")
    assert code != 0
    assert "/x/home/1" in output
    assert "/x/street/1" in output


def test_score_tables_of_recordings_of_one_file_name_are_judged_apart(shared: Path, tmp_path: Path) -> None:
    """Their names join folders by `_`; detections.jsonl beside them says which is which."""
    (tmp_path / "scores").mkdir()
    paths = {Path("/x/home/1.wav"): slice(0, 25), Path("/x/street/1.wav"): slice(125, 150)}
    with open(tmp_path / "detections.jsonl", "w") as file:
        for path, name in unique_names(paths).items():
            values = np.zeros((1, 200), np.float32)
            values[0, paths[path]] = 1.0
            write_scores(tmp_path / "scores" / f"{name}.tsv", FrameScores(("dog",), values, 8.0))
            file.write(json.dumps({"path": str(path), "duration": 8.0, "events": []}) + "\n")
    run = CliRunner().invoke(app, ["detect", "eval", str(tmp_path), str(shared / "cases" / "t_stem.tsv"), "--json"])
    assert run.exit_code == 0, run.output
    row = json.loads(run.output[run.output.index("{") :])["results"][0]["rows"][0]
    assert (row["label"], row["auroc"]) == ("dog", 1.0)


def test_label_tracks_of_audacity_are_truth(tmp_path: Path) -> None:
    for name, times in (("home", "0.0\t1.0"), ("street", "5.0\t6.0")):
        (tmp_path / "truth" / name).mkdir(parents=True)
        (tmp_path / "truth" / name / "1.txt").write_bytes(f"\ufeff{times}\tdog\r\n".encode())
    code, output = judged(tmp_path, tmp_path / "truth", "/x/home/1.wav", "/x/street/1.wav")
    assert code == 0, output
    assert json.loads(output[output.index("{") :])["results"][0]["rows"][0]["f1"] == 1.0
