"""Prompts: found by name, told apart by their text, shipped in the wheel."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from peav.engine.prompts import load_prompt, shipped_prompts
from peav.errors import RecipeError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", shipped_prompts())
def test_a_shipped_prompt_is_found_by_name_and_its_examples_can_be_read(name: str) -> None:
    prompt = load_prompt(name)
    assert prompt.hash == hashlib.sha256(prompt.text.encode()).hexdigest()[:12]
    assert prompt.label == f"{name}@{prompt.hash}"
    assert all(given["id"] == answer["id"] for given, answer in prompt.examples if "id" in given)


def test_a_prompt_that_was_used_for_a_data_set_never_changes() -> None:
    """Another text is another file: rows out there name this one by its hash."""
    assert load_prompt("rewrite_v1").label == "rewrite_v1@f8c0a1e758d9"


def test_a_file_is_the_same_prompt_with_any_line_ends_and_another_one_when_a_word_changes(tmp_path: Path) -> None:
    hashes = []
    for text in (b"Say it.\nShortly.\n", b"\xef\xbb\xbfSay it.\r\nShortly.", b"Say it.\nBriefly.\n"):
        (tmp_path / "mine.txt").write_bytes(text)
        hashes.append(load_prompt(tmp_path / "mine.txt").hash)
    assert hashes[0] == hashes[1] != hashes[2]
    assert load_prompt(str(tmp_path / "mine.txt")).name == "mine"


@pytest.mark.parametrize("name", ["rewrite_v999", "../prompts/rewrite_v1", ""])
def test_an_unknown_prompt_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(RecipeError, match=r"path of a text file.*rewrite_v1"):
        load_prompt(name)


def test_a_file_that_is_no_prompt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        load_prompt(tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(RecipeError, match="empty prompt"):
        load_prompt(tmp_path / "empty.txt")
    (tmp_path / "broken.txt").write_text("Do it.\n<example>\n{}\n</example>")
    with pytest.raises(RecipeError, match="two JSON objects"):
        _ = load_prompt(tmp_path / "broken.txt").examples


@pytest.mark.slow
def test_the_wheel_holds_the_prompts(tmp_path: Path) -> None:
    build = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    with zipfile.ZipFile(tmp_path / done.stdout.splitlines()[-1]) as wheel:
        names = set(wheel.namelist())
    assert {f"peav/engine/prompts/{name}.txt" for name in shipped_prompts()} <= names
