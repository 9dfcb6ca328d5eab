"""Text files are read as their writer saw them, whatever system wrote them, or named with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peav.utils.text import TextError, decode, lines, parse_json, read_text, table

INNER = "dog\u2028bark\x85\x0b\x0c\x1c"  # `str.splitlines` cuts at each of these


@pytest.mark.slow
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0\ufeff"), min_size=1)))
def test_lines_end_as_an_editor_ends_them(written: list[str]) -> None:
    wanted = [(number, line) for number, line in enumerate(written, start=1) if line.strip()]
    for end in ("\n", "\r\n", "\r"):
        for mark in (b"", b"\xef\xbb\xbf"):
            text = decode(mark + end.join(written).encode(), "t.txt")
            assert list(lines(text)) == wanted


def test_characters_within_a_line_do_not_end_it() -> None:
    assert list(lines(f"{INNER}\r\n\n{INNER}")) == [(1, INNER), (3, INNER)]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named_with_what_to_do(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("dog\nsiren\n", encoding=encoding)
    with pytest.raises(TextError, match=r"labels\.txt: UTF-16; save it as UTF-8"):
        read_text(path)


def test_what_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"dog\r\ncaf\xe9\n")
    with pytest.raises(TextError, match=r"t\.txt:2: not UTF-8"):
        read_text(tmp_path / "t.txt")
    (tmp_path / "t.txt").write_bytes(b"dog\nsi\0ren\n")
    with pytest.raises(TextError, match=r"t\.txt:2: holds a zero byte"):
        read_text(tmp_path / "t.txt")
    with pytest.raises(TextError, match=r"gone\.txt: no such file"):
        read_text(tmp_path / "gone.txt")
    with pytest.raises(TextError, match="a folder; give a file"):
        read_text(tmp_path)


@pytest.mark.parametrize("text", ["{", "[" * 200_000, "9" * 5000, "", '{"a": }', "\ufeff{}"])
def test_broken_json_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(TextError, match=r"^t.json: "):
        parse_json(text, "t.json")


def test_tables_have_quoted_cells_and_errors_the_line_on_which_a_row_begins() -> None:
    text = 'a,b\r\n"1\n2","say ""hi"", you"\r\n\r\n3,4\r\n'
    assert list(table(text, ",", "t.csv", TextError)) == [
        ("t.csv:2", {"a": "1\n2", "b": 'say "hi", you'}),
        ("t.csv:5", {"a": "3", "b": "4"}),
    ]
    for text, line in (("a,a\n", 1), ("a,b\n1\n", 2), ("a,b\n1,2\n1,2,3\n", 3), ('a,b\n1,2\n"1,2\n3,4\n', 3)):
        with pytest.raises(TextError, match=f"^t.csv:{line}: "):
            list(table(text, ",", "t.csv", TextError))
