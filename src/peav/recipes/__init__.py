"""The recipes that ship: found by name, wherever the working directory is."""

from __future__ import annotations

from pathlib import Path

SHIPPED = Path(__file__).parent


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe: `name` where it is a file, else the shipped recipe of that name.

    A shipped recipe goes by `smoke`, `smoke.yaml` or `recipes/smoke.yaml`. What is no recipe comes back as it is.
    """
    path = Path(name)
    named = path.parent in (Path(), Path("recipes")) and path.suffix in ("", ".yaml")
    shipped = SHIPPED / f"{path.stem}.yaml"
    return shipped if named and not path.is_file() and shipped.is_file() else path


def shipped_recipes() -> list[str]:
    """The names of the recipes that ship."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))
