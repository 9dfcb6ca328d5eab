"""One table, three faces: for the terminal, for Markdown, and as plain data for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.markup import escape
from rich.table import Table as RichTable

from peav.eval.protocols import KS, Classification, Retrieval

Style = Literal["text", "count", "percent", "decimal"]


@dataclass(frozen=True)
class Column:
    """`key` finds the value in a row, `title` heads the column, `style` says how the value is written.

    Values of the style `percent` are fractions; they stay fractions in the plain data.
    """

    key: str
    title: str
    style: Style = "text"


@dataclass(frozen=True)
class Table:
    """Rows of figures under a title. A value that a row lacks is shown as a dash."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]

    def to_rich(self) -> RichTable:
        """For `rich.print`."""
        table = RichTable(title=escape(self.title), title_justify="left")
        for column in self.columns:
            table.add_column(column.title, justify=_side(column))
        for row in self.rows:
            table.add_row(*map(escape, self._cells(row)))
        return table

    def to_markdown(self) -> str:
        """A heading in bold and a table; ends without a newline."""
        head = [column.title for column in self.columns]
        rule = ["---:" if _side(column) == "right" else "---" for column in self.columns]
        lines = [head, rule, *([cell.replace("|", "\\|") for cell in self._cells(row)] for row in self.rows)]
        return "\n".join([f"**{self.title}**", "", *("| " + " | ".join(line) + " |" for line in lines)])

    def to_dict(self) -> dict[str, Any]:
        """`{"title": ..., "rows": [{key: value}]}`, every number in full."""
        return {"title": self.title, "rows": [dict(row) for row in self.rows]}

    def _cells(self, row: Mapping[str, Any]) -> list[str]:
        return [_written(row.get(column.key), column.style) for column in self.columns]


def _side(column: Column) -> Literal["left", "right"]:
    return "left" if column.style == "text" else "right"


def _written(value: Any, style: Style) -> str:
    if value is None:
        return "–"
    if style == "percent":
        return f"{100 * value:.1f}"
    if style == "decimal":
        return f"{value:.2f}"
    return str(value)


def retrieval_table(title: str, results: Sequence[Retrieval]) -> Table:
    """Directions down; recall (per cent), its chance and the median rank across; narrow enough for 80 columns.

    The plain data hold the chance at every k, the number of queries and the mean reciprocal rank as well.
    """
    columns = [
        Column("direction", "direction"),
        Column("targets", "targets", "count"),
        *(Column(f"recall@{k}", f"R@{k}", "percent") for k in KS),
        Column("chance@1", "chance@1", "percent"),
        Column("median_rank", "median", "decimal"),
    ]
    rows = [
        {
            "direction": result.direction,
            "queries": result.queries,
            "targets": result.targets,
            **{f"recall@{k}": value for k, value in result.recall.items()},
            **{f"chance@{k}": value for k, value in result.chance.items()},
            "median_rank": result.median_rank,
            "mrr": result.mrr,
        }
        for result in results
    ]
    return Table(title, columns, rows)


def classification_table(title: str, results: Sequence[Classification]) -> Table:
    """Methods down; accuracy and the share of the commonest class across."""
    columns = [
        Column("method", "method"),
        Column("clips", "clips", "count"),
        Column("classes", "classes", "count"),
        Column("accuracy", "accuracy", "percent"),
        Column("chance", "chance", "percent"),
    ]
    return Table(title, columns, [vars(result) for result in results])
