from __future__ import annotations

import io
import json

from rich.console import Console

from peav.eval.tables import Column, Table

TABLE = Table(
    "figures",
    [
        Column("name", "name"),
        Column("n", "clips", "count"),
        Column("r", "R@1 %", "percent"),
        Column("m", "median", "decimal"),
    ],
    [{"name": "a|b", "n": 12, "r": 1 / 3, "m": 1.5}, {"name": "c", "n": 3, "m": 2}],
)


def test_markdown_is_a_table_with_numbers_to_the_right_and_dashes_for_what_is_missing() -> None:
    assert TABLE.to_markdown().splitlines() == [
        "**figures**",
        "",
        "| name | clips | R@1 % | median |",
        "| --- | ---: | ---: | ---: |",
        "| a\\|b | 12 | 33.3 | 1.50 |",
        "| c | 3 | – | 2.00 |",
    ]


def test_plain_data_keeps_every_digit_and_survives_json() -> None:
    assert json.loads(json.dumps(TABLE.to_dict())) == {"title": "figures", "rows": [dict(row) for row in TABLE.rows]}


def test_the_terminal_shows_the_same_cells() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(TABLE.to_rich())
    shown = console.file.getvalue()
    assert all(word in shown for word in ("figures", "R@1 %", "a|b", "33.3", "1.50", "–"))


def test_the_terminal_takes_brackets_for_what_they_are() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(Table("of [tiny]", [Column("label", "label")], [{"label": "dog [bold]"}]).to_rich())
    assert "of [tiny]" in console.file.getvalue()
    assert "dog [bold]" in console.file.getvalue()
