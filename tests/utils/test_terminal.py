"""What is printed is seen: no text makes the terminal do anything else."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.markup import escape
from rich.table import Table

from peav.utils.terminal import SafeConsole, is_control, visible

EVIL = "a\x1b]0;owned\x07\x1b[31m\nb\rc\x9b2J\u202ed\u2028e\udcfff\x7f\x00"


def test_what_is_ordinary_stays_as_it_is() -> None:
    for text in ("naïve 名前 👩‍👩‍👧.wav", "a b\\n.wav", ""):
        assert visible(text) == text


def test_control_characters_are_written_out() -> None:
    assert visible(EVIL) == r"a\x1b]0;owned\x07\x1b[31m\nb\rc\x9b2J\u202ed\u2028e\udcfff\x7f\x00"
    assert visible("a\tb\nc\x1b", keep="\t\n") == "a\tb\nc\\x1b"


@given(st.text(st.characters(), max_size=40))
def test_nothing_that_acts_is_left(text: str) -> None:
    assert not any(map(is_control, visible(text)))
    visible(text).encode()
    assert visible(visible(text)) == visible(text)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_console_sends_no_control_character_of_a_text(terminal: bool) -> None:
    plain, evil = io.StringIO(), io.StringIO()
    for file, text in ((plain, "name"), (evil, EVIL)):
        console = SafeConsole(file=file, force_terminal=terminal, width=200)
        table = Table("a", "b")
        table.add_row(escape(text), f"[red]{escape(text)}[/]")
        console.print(table)
        console.print(f"[bold]{escape(text)}[/]", soft_wrap=True)
        console.print(text, markup=False)
        with console.status(escape(text)):
            pass
    evil.getvalue().encode()
    # What is left is what Rich sends for any name, and line ends, which `visible` takes out where a name is put in.
    sent = {c for c in evil.getvalue() if is_control(c)}
    assert sent <= {c for c in plain.getvalue() if is_control(c)}
    assert "owned\x07" not in evil.getvalue()
    assert "\x1b]0" not in evil.getvalue()


def test_a_name_in_colons_is_no_picture() -> None:
    shown = io.StringIO()
    console = SafeConsole(file=shown, width=80)
    console.print(escape("own.py:zero:bear:"))
    console.print(Table(":bear:", title=":bear:"))
    assert "own.py:zero:bear:" in shown.getvalue()
    assert shown.getvalue().count(":bear:") == 3


def test_a_line_for_other_programs_ends_without_blanks_and_for_people_as_rich_has_it() -> None:
    table = Table("name", "n", "", box=None)
    table.add_row("a", "  1", "")
    table.add_row("long  name", "12", "")
    for terminal, ends in ((False, {"n", "1", "2", "b"}), (True, {" ", "b"})):
        shown = io.StringIO()
        console = SafeConsole(file=shown, force_terminal=terminal, color_system=None)
        console.print(table)
        console.print("a  b")
        lines = shown.getvalue().splitlines()
        assert [line.split() for line in lines] == [["name", "n"], ["a", "1"], ["long", "name", "12"], ["a", "b"]]
        assert {line[-1] for line in lines} <= ends
    assert lines[-1] == "a  b"
