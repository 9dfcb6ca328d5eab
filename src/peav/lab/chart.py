"""A chart of ablations as SVG: a row for each variant, a dot for each seed, a bar for their mean."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import mean

from peav.lab.ablate import Outcome

ROW, LABEL, PANEL, GAP, TOP = 18, 220, 130, 14, 40
PAPER, INK, BAR, DOT, RULE = "#fff", "#222", "#9ec5e8", "#1f5f99", "#ddd"


def chart(found: Sequence[Outcome], figures: Sequence[str]) -> str:
    """The chart as an SVG document: a panel for each figure, 0 to 100 %, groups apart."""
    marks: list[str] = []
    for number, name in enumerate(figures):
        left = LABEL + number * (PANEL + GAP)
        marks.append(_text(left + PANEL / 2, TOP - 14, name, "middle"))
    y, group = TOP, None
    for one in found:
        if one.group != group:
            group = one.group
            marks.append(_text(4, y + ROW - 5, group, weight="bold"))
            y += ROW
        marks.append(_text(16, y + ROW - 5, one.variant))
        for number, name in enumerate(figures):
            marks += _values(LABEL + number * (PANEL + GAP), y, one.figures[name])
        y += ROW
    width, height = LABEL + len(figures) * (PANEL + GAP), y + GAP
    rules = [
        f'<line x1="{x}" x2="{x}" y1="{TOP - 6}" y2="{y}" stroke="{RULE}"/>'
        for number in range(len(figures))
        for x in (LABEL + number * (PANEL + GAP), LABEL + number * (PANEL + GAP) + PANEL)
    ]
    # Without it, dark ink would stand on whatever the page has.
    paper = f'<rect width="{width}" height="{height}" fill="{PAPER}"/>'
    body = "\n".join([paper, *rules, *marks])
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'{head} font-family="sans-serif" font-size="11">\n{body}\n</svg>\n'


def _values(left: float, y: float, values: Sequence[float]) -> list[str]:
    if not values:
        return []
    middle = mean(values)
    bar = f'<rect x="{left}" y="{y + 4}" width="{PANEL * middle:.1f}" height="{ROW - 8}" fill="{BAR}"/>'
    dots = [f'<circle cx="{left + PANEL * v:.1f}" cy="{y + ROW / 2}" r="2.5" fill="{DOT}"/>' for v in values]
    return [bar, *dots, _text(left + PANEL * middle + 6, y + ROW - 5, f"{100 * middle:.1f}")]


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" fill="{INK}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
