"""Events of many files from Python; tests/cli/test_detect.py has the same job as a command, killed and gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from media.make import tone, write_audio
from random_detector import random_detector

from peav.detector import detect_files
from peav.errors import LabelError
from peav.events import Postprocessing
from peav.media import MissingFileError

HOW = Postprocessing(0.5)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    write_audio(folder / "a.wav", tone(1.0, seed=1))
    write_audio(folder / "b.wav", tone(1.5, seed=2))
    (folder / "bad.wav").write_text("hello")
    return folder


@pytest.mark.slow
def test_a_folder_gives_what_the_detector_finds_in_each_file(sounds: Path, tmp_path: Path) -> None:
    detector, labels = random_detector(), {"dog": "a dog barking", "siren": "siren"}
    absent = tmp_path / "absent.wav"
    run = detect_files(detector, [sounds, absent], labels, postprocessing=HOW)
    a, b, bad, missing = run.files
    assert [one.path.name for one in run.files] == ["a.wav", "b.wav", "bad.wav", "absent.wav"]
    for one in (a, b):
        assert list(one.events) == detector.detect(one.path, labels, 0.5)
        assert one.error is None
    assert "not audio or video" in str(bad.error)
    assert isinstance(missing.error, MissingFileError)
    counts = run.summary()
    assert (counts["detected"], counts["failed"], counts["skipped"]) == (2, 2, 0)


@pytest.mark.slow
def test_a_folder_of_results_is_gone_on_with(sounds: Path, tmp_path: Path) -> None:
    detector = random_detector()
    first = detect_files(detector, [sounds], ["dog"], tmp_path / "out", postprocessing=HOW, limit=1)
    second = detect_files(detector, [sounds], ["dog"], tmp_path / "out", postprocessing=HOW, scores=False)
    third = detect_files(detector, [sounds], ["dog"], tmp_path / "out", postprocessing=HOW)
    assert [len(run.files) for run in (first, second, third)] == [1, 2, 0]
    assert (third.skipped, third.failed_before) == (2, 1)
    lines = [json.loads(line) for line in (tmp_path / "out" / "detections.jsonl").read_text().splitlines()]
    assert [Path(line["path"]).name for line in lines] == ["a.wav", "b.wav"]
    assert json.loads((tmp_path / "out" / "a.json").read_text())["events"] == lines[0]["events"]


def test_labels_and_paths_that_make_no_sense_are_refused(sounds: Path) -> None:
    with pytest.raises(LabelError, match="no labels"):
        detect_files(random_detector(), [sounds], [])
    with pytest.raises(MissingFileError, match="nowhere"):
        detect_files(random_detector(), ["nowhere"], ["dog"])
