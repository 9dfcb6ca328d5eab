"""The recipes that ship: found by name, wherever the working directory is."""

from __future__ import annotations

from pathlib import Path

SHIPPED = Path(__file__).parent


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe: `name` where it is a file, else the shipped recipe of that name.

    A shipped recipe goes by `smoke`, `smoke.yaml` or `recipes/smoke.yaml`, those of the engine by `engine/stage1`. What
    is no recipe comes back as it is.
    """
    path = Path(name)
    parts = path.with_suffix("").parts
    shipped = "/".join(parts[1:] if parts[:1] == ("recipes",) else parts)
    named = path.suffix in ("", ".yaml") and not path.is_file() and shipped in shipped_recipes()
    return SHIPPED / f"{shipped}.yaml" if named else path


def shipped_recipes() -> list[str]:
    """The names of the recipes that ship."""
    return sorted(path.relative_to(SHIPPED).with_suffix("").as_posix() for path in SHIPPED.rglob("*.yaml"))
