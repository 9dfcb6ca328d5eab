"""What was measured as tables in Markdown and as a chart."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

BAR, ROW, LABEL, WIDTH = 16, 22, 220, 720
COLORS = {"peav": "#1f5f99", "transformers": "#c9803a"}


def to_markdown(report: Mapping[str, Any]) -> str:
    """The parts, memory by length and files, a table each."""
    seconds = "CPU s" if report["clock"] == "cpu" else "s"
    lines = [
        f"| part | | {seconds} a unit | unit | times peav's | GFLOP a unit | of the peak | peak memory, MB |",
        "|---|---|---:|---|---:|---:|---:|---:|",
    ]
    for row in report["parts"]:
        share = f"{100 * row['share_of_peak']:.0f} %"
        figures = f"{row['seconds_a_unit']:.4g} | {row['unit']} | {row['times_ours']:.2f} | {row['gflop_a_unit']:.3g}"
        lines.append(f"| {row['part']} | {row['by']} | {figures} | {share} | {row['peak_memory'] / 1e6:.0f} |")
    lines += ["", "| seconds of sound | codec's memory, MB |", "|---:|---:|"]
    lines += [f"| {row['seconds']:g} | {row['peak_memory'] / 1e6:.0f} |" for row in report["memory"]]
    lines += ["", "| files | cores | files a minute | CPU s a file | of it in workers |", "|---|---:|---:|---:|---:|"]
    for name, row in report["files"].items():
        share = 100 * row["workers"] / (row["workers"] + row["model"])
        figures = f"{row['files_a_minute']:.0f} | {row['cpu_seconds_a_file']:.3f} | {share:.0f} %"
        lines.append(f"| {name} | {row['cores']} | {figures} |")
    return "\n".join(lines)


def to_svg(report: Mapping[str, Any]) -> str:
    """A bar for each part and implementation: seconds a unit, as a share of the slowest of the part."""
    rows = report["parts"]
    slowest: dict[str, float] = {}
    for row in rows:
        slowest[row["part"]] = max(slowest.get(row["part"], 0.0), row["seconds_a_unit"])
    marks = []
    for place, row in enumerate(rows):
        y, long = 10 + ROW * place, row["seconds_a_unit"] / slowest[row["part"]]
        width = (WIDTH - LABEL - 190) * long
        name = escape(f"{row['part']}, {row['by']}")
        value = f"{row['seconds_a_unit']:.3g} s a {row['unit']}"
        marks.append(f'<text x="{LABEL - 8}" y="{y + 12}" text-anchor="end">{name}</text>')
        color = COLORS.get(row["by"], "#777")
        marks.append(f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{color}"/>')
        marks.append(f'<text x="{LABEL + width + 6:.1f}" y="{y + 12}">{escape(value)}</text>')
    height = 20 + ROW * len(rows)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    # Without it, dark ink would stand on whatever the page has.
    paper = f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    body = "\n".join([paper, *marks])
    return f'{head} font-family="sans-serif" font-size="12" fill="#222">\n{body}\n</svg>\n'
