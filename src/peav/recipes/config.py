"""YAML into frozen dataclasses, with errors that name the key."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import to_json

from peav.errors import RecipeError
from peav.recipes import find_recipe, shipped_recipes
from peav.utils.plugins import PluginError, load_class
from peav.utils.text import read_text

T = TypeVar("T")


class _Loader(yaml.SafeLoader):
    """Takes 1e-4, without a point, for a number."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


def read_mapping(path: Path, overrides: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A YAML file of keys and values; arguments and errors as in `train.recipe.read_recipe`."""
    values = _mapping(path)
    for key, value in (overrides or {}).items():
        _set(values, key, _yaml(value, key))
    return values


def read_based(path: Path, overrides: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The same of a file that may build on another: `base` names it, as a recipe or by a path beside this one.

    What the file says replaces what its base says, key by key; lists are replaced whole. `overrides` come last.
    """
    values = _based(path, ())
    for key, value in (overrides or {}).items():
        _set(values, key, _yaml(value, key))
    return values


def _based(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    own, values = find_recipe(path).absolute(), _mapping(path)
    if own in above:
        raise RecipeError(f"{path}: base: it builds on itself")
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise RecipeError(f"{path}: base: give one recipe, not {base!r}")
    beside = own.parent / base
    return _merged(_based(beside if beside.is_file() else Path(base), (*above, own)), values)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    both = {key for key in base.keys() & own.keys() if isinstance(base[key], dict) and isinstance(own[key], dict)}
    return base | own | {key: _merged(base[key], own[key]) for key in both}


def _mapping(path: Path) -> dict[str, Any]:
    path = find_recipe(path)
    if not path.is_file():
        raise RecipeError(f"{path}: no such recipe; give a YAML file, or one of {', '.join(shipped_recipes())}")
    values = _yaml(read_text(path, RecipeError), str(path))
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys to values")
    return values


def maker_of(model: str) -> str | None:
    """The shipped recipe whose run writes the checkpoint `model`, if one does."""
    outputs = {name: read_mapping(Path(name)).get("output") for name in shipped_recipes()}
    return next((name for name, output in outputs.items() if output and Path(output, "model") == Path(model)), None)


def from_options(
    base: type[T], registry: Mapping[str, str], options: str | Mapping[str, Any], where: str, *first: Any
) -> T:
    """An object of the class that `options` name (`{class: NAME, ...}`, or its name alone), made of the other options.

    Args:
        base, registry: as of `utils.plugins.load_class`.
        where: the key of the recipe, for messages.
        first: what its `__init__` takes before the options.

    Raises:
        RecipeError: there is no such class, an option is unknown, missing or has the wrong type.
    """
    options = {"class": options} if isinstance(options, str) else options
    name = options.get("class")
    if not isinstance(name, str):
        raise RecipeError(f"{where}: {dict(options)} names no class; write {{class: NAME, ...}}")
    try:
        cls = load_class(name, base, registry)
    except PluginError as error:
        raise RecipeError(f"{where}: {error}") from error
    takes = list(inspect.signature(cls).parameters.values())[len(first) :]
    given = {key: value for key, value in options.items() if key != "class"}
    known = [one.name for one in takes]
    if unknown := sorted(set(given) - set(known)):
        raise RecipeError(f"{where}: {name}: {unknown[0]}: no such option; here are {', '.join(known) or 'none'}")
    if missing := [one.name for one in takes if one.default is one.empty and one.name not in given]:
        raise RecipeError(f"{where}: {name}: {missing[0]}: is missing")
    hints = typing.get_type_hints(cls if dataclasses.is_dataclass(cls) else cls.__init__)
    converted = {key: _validated(hints.get(key, Any), value, f"{where}: {name}: {key}") for key, value in given.items()}
    return cls(*first, **converted)


def from_mapping(cls: type[T], values: Any) -> T:
    """A dataclass out of plain values, as YAML holds them; what they lack has its default. Raises RecipeError."""
    made: T = _validated(cls, values)
    return made


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: such as the date 2026-99-99
        raise RecipeError(f"{where}: not YAML ({error})") from error


def _set(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        if not isinstance(values.setdefault(parent, {}), dict):
            raise RecipeError(f"{dotted}: {parent} holds {values[parent]!r}, which has no keys")
        values = values[parent]
    values[last] = value


def _validated(kind: Any, value: Any, where: str = "") -> Any:
    """A plain value as an annotated kind; `where` is its key, for messages. Raises RecipeError."""
    # In a tuple, as a dataclass is as strict as what it stands in; as JSON, whose lists are tuples in strict mode too.
    config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)
    try:
        return TypeAdapter(tuple[kind], config=config).validate_json(to_json([value], fallback=str))[0]
    except ValidationError as error:
        # A key under a wrong name is missing under its own: what is there says more. Of several kinds that a value may
        # be the one was meant in which the error is deepest.
        said = min(error.errors(include_url=False), key=lambda one: (one["type"] == "missing", -len(one["loc"])))
        raise _explained(said, kind, value, where) from None
    except ValueError as error:  # such as an anchor that holds itself
        raise RecipeError(f"{where or 'the recipe'}: holds what cannot be read ({error})") from error


def _explained(found: Mapping[str, Any], kind: Any, value: Any, where: str) -> Exception:
    """One of pydantic's errors as ours: the key, what is wrong, what it may be."""
    if found["type"] == "value_error":
        error: Exception = found["ctx"]["error"]  # of a dataclass's own checks, which say it all
        return error
    for step in found["loc"][1:]:
        if isinstance(step, str) and (owner := _dataclass(kind)):
            known = typing.get_type_hints(owner)
            kind = known.get(step)
        try:
            value = value[step]
        except (TypeError, LookupError):
            if found["type"] != "missing":  # not a key, but the name of one of several kinds
                continue
        where += f"[{step}]" if isinstance(step, int) else f".{step}"
    where = where.lstrip(".") or "the recipe"
    if found["type"] == "missing":
        return RecipeError(f"{where}: is missing")
    if found["type"] == "unexpected_keyword_argument":
        return RecipeError(f"{where}: no such key; here are {', '.join(known)}")
    return RecipeError(f"{where}: {found['msg'].removeprefix('Input ')}, found {found['input']!r}")


def _dataclass(kind: Any) -> Any:
    """The dataclass in a kind such as `tuple[Source, ...]` or `Tune | None`; None where it has none."""
    return kind if dataclasses.is_dataclass(kind) else next(filter(None, map(_dataclass, typing.get_args(kind))), None)
