"""Stands in for PyAV where it is not installed: peav then imports, and decodes nothing. Importing this is enough.

python -m pytest -p no_decoder ...     with this folder in PYTHONPATH
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType


class NoDecoder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `av` and all in it: modules in which every name is a class of errors, of which nothing is ever made."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Of `av` alone."""
        ours = name.split(".")[0] == "av"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if ours else None

    def exec_module(self, module: ModuleType) -> None:
        """Answer whatever is asked of it."""

        def answer(name: str) -> type[Exception]:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (Exception,), {})

        module.__version__ = "0"  # type: ignore[attr-defined]
        module.__getattr__ = answer  # type: ignore[method-assign]


def install() -> None:
    """Before all other finders."""
    sys.meta_path.insert(0, NoDecoder())


if importlib.util.find_spec("av") is None:
    install()
