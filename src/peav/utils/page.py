"""A page as one HTML file with everything in it, in one palette, light and dark."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from typing import Any


def document(title: str, body: str, style: str, script: str = "", data: Any = None) -> str:
    """The whole file; nothing is fetched.

    Args:
        style: CSS after `page.css`, which has the palette.
        data: what the script finds as JSON in the element `data`.
    """
    # "</script>" in a string would end the element.
    held = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{resource('peav.utils', 'page.css')}{style}</style></head>"
        f'<body>{body}<script type="application/json" id="data">{held}</script>'
        f"<script>{script}</script></body></html>\n"
    )


def resource(package: str, *path: str) -> str:
    """A text file that lies in a package."""
    return files(package).joinpath(*path).read_text(encoding="utf-8")
