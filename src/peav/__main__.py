"""`python -m peav` is the `peav` command."""

from __future__ import annotations

from peav.cli.main import app

app()
