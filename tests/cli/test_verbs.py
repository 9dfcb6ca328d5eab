"""The command itself, and the verbs that need no library."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from golden_file import write_golden
from random_detector import random_detector
from random_model import random_encoder

from peav.checkpoint import save_pretrained
from peav.detector import Detector

Run = Callable[..., Any]


def command(*args: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from peav.cli.main import app; app()"]
    return subprocess.run([*program, *args], capture_output=True, text=True, timeout=120, check=False)


def test_help_lists_every_verb_without_loading_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from peav.cli.main import VERBS, app;"
        "text = CliRunner().invoke(app, ['--help']).stdout;"
        "assert all(verb in text for verb in VERBS), text;"
        "sys.exit('torch' in sys.modules or 'av' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


@pytest.mark.slow
def test_errors_of_the_real_command_are_one_line() -> None:
    result = command("search", "absent.parquet", "rain")
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("error: absent.parquet: no such library")


def test_version_and_misspelt_verbs() -> None:
    assert command("--version").stdout.startswith("peav 0.")
    misspelt = command("serch", "x")
    assert misspelt.returncode == 2
    assert "search" in misspelt.stderr


def test_every_verb_explains_itself(peav: Run) -> None:
    from peav.cli.main import VERBS

    for verb in VERBS:
        result = peav(*verb.split(), "--help")
        assert f"Usage: root {verb} " in result.stdout, verb
        assert result.exit_code == 0, (verb, result.output)
        assert "--json" in result.stdout, verb


def test_doctor_passes_on_a_sound_model_and_compares_with_known_numbers(as_json: Run, model: str) -> None:
    report = as_json("doctor", "--model", model)
    assert report["healthy"]
    assert "none to compare" in report["checks"][-1]["detail"]


@pytest.mark.slow
def test_doctor_fails_where_the_numbers_differ(peav: Run, tmp_path: Path) -> None:
    encoder = random_encoder()
    encoder.save_pretrained(tmp_path)
    write_golden(encoder, tmp_path)
    assert peav("doctor", "--model", tmp_path).exit_code == 0
    record = json.loads((tmp_path / "golden.json").read_text())
    record["outputs"]["audio"][0] += 0.1
    (tmp_path / "golden.json").write_text(json.dumps(record))
    result = peav("doctor", "--model", tmp_path, "--json")
    assert result.exit_code == 1
    checks = {check["check"]: check for check in json.loads(result.stdout)["checks"]}
    assert checks[f"model {tmp_path}"]["status"] == "failed"
    assert checks["decoding mp4"]["status"] == "ok"


@pytest.mark.slow
def test_doctor_checks_a_frame_model_by_its_scores(as_json: Run, peav: Run, tmp_path: Path) -> None:
    copy, detector = tmp_path / "copy", random_detector()
    save_pretrained(detector.model, copy, detector.tokenizer)
    assert "none to compare" in as_json("doctor", "--model", copy)["checks"][-1]["detail"]
    write_golden(Detector.load(copy, device="cpu"), copy)
    assert "of the known one" in as_json("doctor", "--model", copy)["checks"][-1]["detail"]
    record = json.loads((copy / "golden.json").read_text())
    for wrong in (record["outputs"]["scores"][7] + 0.1, float("nan")):
        record["outputs"]["scores"][7] = wrong
        (copy / "golden.json").write_text(json.dumps(record))
        assert peav("doctor", "--model", copy).exit_code == 1
    record["outputs"]["text_audio"] = [0.0]
    (copy / "golden.json").write_text(json.dumps(record))
    assert "on one side alone" in json.loads(peav("doctor", "--model", copy, "--json").stdout)["checks"][-1]["detail"]


def test_doctor_sees_weights_that_config_json_was_not_saved_with(peav: Run, tmp_path: Path) -> None:
    for seed in (0, 1):
        random_encoder(seed).save_pretrained(tmp_path / str(seed))
    (tmp_path / "0" / "model.safetensors").write_bytes((tmp_path / "1" / "model.safetensors").read_bytes())
    result = peav("doctor", "--model", tmp_path / "0", "--json")
    assert result.exit_code == 1
    assert "config.json was saved with other weights" in json.loads(result.stdout)["checks"][-1]["detail"]


def test_doctor_without_weights_says_what_to_do(peav: Run, tmp_path: Path) -> None:
    result = peav("doctor", "--model", tmp_path / "absent", "--json")
    assert result.exit_code == 1
    assert "no directory" in json.loads(result.stdout)["checks"][-1]["detail"]


@pytest.mark.slow
def test_convert_goes_through_every_layout_and_back(as_json: Run, golden: Path, tmp_path: Path) -> None:
    source = str(golden / "pe-av-perception_models")
    for layout in ("transformers", "peav", "perception_models"):
        report = as_json("convert", source, tmp_path / layout, "--to", layout)
        assert report["files"]["model.safetensors"] > 0
        source = str(tmp_path / layout)
