"""A file is either whole or what it was before."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from peav.utils.atomic import atomic_write


def test_the_file_appears_with_its_content_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder" / "a.bin"
    with atomic_write(target) as temporary:
        assert temporary.parent == target.parent
        temporary.write_bytes(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def killed_while_writing(target: Path) -> None:
    code = (
        "import os, signal, sys; from peav.utils.atomic import atomic_write\n"
        "with atomic_write(sys.argv[1]) as t:\n"
        "    t.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert process.returncode == -signal.SIGKILL


def write(target: Path, text: str) -> None:
    with atomic_write(target) as temporary:
        temporary.write_text(text)


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    killed_while_writing(target)
    assert target.read_text() == "old"


@pytest.mark.parametrize("old", [None, "old"])
def test_what_a_killed_writer_left_goes_with_the_next_success(tmp_path: Path, old: str | None) -> None:
    target = tmp_path / "a.txt"
    if old is not None:
        write(target, old)
    killed_while_writing(target)
    assert len(list(tmp_path.glob("*.tmp"))) == 1
    write(target, "new")
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_text() == "new"


def test_what_a_living_writer_or_another_program_holds_stays(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    (tmp_path / ".a.txt.other.tmp").write_text("not ours")
    with atomic_write(target) as first:
        first.write_text("first")
        write(target, "second")
        write(target, "third")
        assert first.exists()
    assert target.read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.txt.other.tmp", "a.txt"]


def test_files_are_readable_by_others_as_usual(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    with atomic_write(tmp_path / "atomic") as temporary:
        temporary.write_text("")
    assert (tmp_path / "atomic").stat().st_mode == plain.stat().st_mode


def test_another_container_on_the_machine_never_takes_a_living_writers_file_for_litter(tmp_path: Path) -> None:
    code = (
        "import sys; from peav.utils.atomic import atomic_write\n"
        "with atomic_write(sys.argv[1]) as t: t.write_text('new')"
    )
    other = ["unshare", "--pid", "--fork", sys.executable, "-c", code]
    if subprocess.run([*other[:3], "true"], capture_output=True, check=False).returncode:
        pytest.skip("making a process namespace takes more rights")
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        for name in ("a.txt", "b.txt"):  # processes of the other namespace know no process of ours
            subprocess.run([*other, str(tmp_path / name)], check=True)
        assert temporary.exists()
    assert (tmp_path / "a.txt").read_text() == "half"
