"""`peav doctor` says what is wrong with an installation, and never dies of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from peav.cli import doctor


def examine(shadows: Path, **environment: str) -> dict[str, Any]:
    """The report of a process that finds the modules and packages in a folder before all others."""
    path = os.pathsep.join([str(shadows), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "peav", "doctor", "--json"],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["healthy"] else 1)
    assert "Traceback" not in done.stderr
    return {check["check"]: (check["status"], check["detail"]) for check in report["checks"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "error", "hit"),
    [
        (("torch", "pyarrow"), "OSError('libtorch.so: cannot open shared object file')", "model tiny"),
        (("av",), "ImportError('DLL load failed')", "decoding mp4"),
        (("numpy", "safetensors"), "AttributeError('no such symbol')", "decoding wav"),
        (("huggingface_hub",), "RuntimeError('half an upgrade')", "hub cache"),
    ],
)
def test_packages_that_do_not_import_are_named(tmp_path: Path, broken: tuple[str, ...], error: str, hit: str) -> None:
    for name in broken:
        (tmp_path / f"{name}.py").write_text(f"raise {error}")
    checks = examine(tmp_path)
    status, detail = checks["packages"]
    assert status == "failed"
    for name in broken:
        assert f"pip install --force-reinstall {name.replace('_', '-')}" in detail.replace("_", "-")
    assert error.partition("('")[2].removesuffix("')") in detail
    assert checks[hit][0] == "failed"
    assert checks["temporary files"][0] == "ok"


def test_packages_that_are_too_old_or_missing_are_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "tokenizers-0.9.0.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: tokenizers\nVersion: 0.9.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    needs = ["tokenizers>=0.22", "numpy>=2", "no-such-package>=3.1", 'absent>=1; extra == "dev"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: needs)
    with pytest.raises(doctor.CheckError) as caught:
        doctor._packages()
    assert str(caught.value) == (
        "tokenizers 0.9.0 is too old: pip install 'tokenizers>=0.22'; "
        "no-such-package is missing: pip install 'no-such-package>=3.1'"
    )


@pytest.mark.parametrize(
    ("version", "lowest", "enough"),
    [("2.13.0+cpu", "2.8", True), ("2.8", "2.8.0", True), ("2.7.1", "2.8", False), ("0.22.2rc1", "0.22.2", True)],
)
def test_versions_compare_by_number(version: str, lowest: str, enough: bool) -> None:
    assert (doctor._numbers(version) >= doctor._numbers(lowest)) == enough


def test_a_disk_that_is_full_and_a_cache_that_cannot_be_written_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor._room(tmp_path / "to" / "be" / "made", "").startswith(str(tmp_path / "to" / "be" / "made"))
    with pytest.raises(doctor.CheckError, match=r"/proc cannot be written to .*; set HF_HOME"):
        doctor._room(Path("/proc/cache"), "set HF_HOME to another folder")
    monkeypatch.setattr(doctor, "SPACE", 2**70)
    with pytest.raises(doctor.CheckError, match="MiB free; make room, or set TMPDIR"):
        doctor._room(tmp_path, "set TMPDIR to another folder")


def test_what_can_be_done_without_is_optional_and_one_is_no_plural(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    speech = doctor._run("speech synthesis", doctor._espeak)
    assert (speech["status"], speech["status"] in doctor.MARKS) == ("optional", True)
    assert "pip install 'peav[world]'" in speech["detail"]
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert doctor._device().endswith("; 2 cores, 1 torch thread")
