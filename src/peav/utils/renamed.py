"""Names of the last release, which still work for this one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for `module` that answers to old names with a DeprecationWarning.

    Args:
        module: `__name__` of the module that they were in.
        names: the old name -> where it is now, `package.module:name`.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807 - what modules call it
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, new = names[name].partition(":")
        warnings.warn(
            f"{module}.{name} is now {place}.{new}; the old name goes with the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(import_module(place), new)

    return __getattr__
