"""Classes that a recipe or a command names: built in ones by a short name, any other by where it stands."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from peav.errors import PeavError

T = TypeVar("T")


class PluginError(PeavError):
    """A class that was named cannot be used; the message says what to change."""


def load_class(name: str, base: type[T], registry: Mapping[str, str]) -> type[T]:
    """The class that a name stands for, imported when it is asked for.

    Args:
        name: a key of `registry`, `package.module:Class`, or `path/to/file.py:Class`.
        base: what it must be a subclass of.
        registry: short names, each with its `package.module:Class`.

    Raises:
        PluginError: there is no such name, file or class, importing it fails, or it is not a `base`.
    """
    place, colon, attribute = registry.get(name, name).rpartition(":")
    if not colon:
        known = ", ".join(registry) or "none"
        raise PluginError(f"{name!r} is not built in ({known}); name a class of yours as path/to/file.py:Class")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:  # whatever the file does when it is run
        raise PluginError(f"{name}: importing {place} failed with {type(error).__name__}: {error}") from error
    found = getattr(module, attribute, None)
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise PluginError(f"{name}: {place} has no class {attribute} derived from {base.__module__}.{base.__name__}")
    return found


def _from_file(path: Path) -> Any:
    """The module of a file, the same one each time: two imports would give two classes."""
    path = path.resolve()
    name = f"peav_plugin:{path}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise FileNotFoundError(f"no such file: {path}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:  # Ctrl-C too: half a module must not be found the next time
            del sys.modules[name]
            raise
    return sys.modules[name]
