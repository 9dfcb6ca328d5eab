"""YAML into frozen dataclasses, with errors that name the key."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from peav.errors import RecipeError
from peav.recipes import find_recipe, shipped_recipes
from peav.utils.plugins import PluginError, load_class
from peav.utils.text import read_text

T = TypeVar("T")


def read_dataclass(cls: type[T], path: Path) -> T:
    """Read a YAML file into a dataclass; errors as in `train.recipe.read_recipe`."""
    return from_mapping(cls, read_mapping(path))


def read_mapping(path: Path, overrides: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A YAML file of keys and values; arguments and errors as in `train.recipe.read_recipe`."""
    path = find_recipe(path)
    if not path.is_file():
        raise RecipeError(f"{path}: no such recipe; give a YAML file, or one of {', '.join(shipped_recipes())}")
    values = _yaml(read_text(path, RecipeError), str(path))
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys to values")
    for key, value in (overrides or {}).items():
        _set(values, key, _yaml(value, key))
    return values


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
    known = {one.name for one in takes}
    if unknown := sorted(set(given) - known):
        raise RecipeError(f"{where}: {name}: {unknown[0]}: no such option; here are {', '.join(known) or 'none'}")
    if missing := [one.name for one in takes if one.default is one.empty and one.name not in given]:
        raise RecipeError(f"{where}: {name}: {missing[0]}: is missing")
    hints = typing.get_type_hints(cls if dataclasses.is_dataclass(cls) else cls.__init__)
    converted = {key: _convert(hints.get(key, Any), value, f"{where}: {name}: {key}") for key, value in given.items()}
    return cls(*first, **converted)


def from_mapping(cls: type[T], values: Any) -> T:
    """A dataclass out of plain values, as YAML holds them; what they lack has its default. Raises RecipeError."""
    built: T = _build(cls, values, "")
    return built


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: such as the date 2026-99-99
        raise RecipeError(f"{where}: not YAML ({error})") from error


def _set(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        if not isinstance(values.setdefault(parent, {}), dict):
            raise RecipeError(f"{dotted}: {parent} holds {values[parent]!r}, which has no keys")
        values = values[parent]
    values[last] = value


def _build(cls: type[Any], values: Any, where: str) -> Any:
    """A dataclass from a mapping, with errors that name the key."""
    if not isinstance(values, dict):
        raise RecipeError(f"{where or 'the recipe'}: expected a mapping, found {values!r}")
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise RecipeError(f"{where}{unknown[0]}: no such key; here are {', '.join(hints)}")
    missing = [
        f.name
        for f in dataclasses.fields(cls)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in values
    ]
    if missing:
        raise RecipeError(f"{where}{missing[0]}: is missing")
    return cls(**{key: _convert(hints[key], value, f"{where}{key}") for key, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    """One value to its annotated type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return _build(hint, value, f"{where}.")
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise RecipeError(f"{where}: expected a list, found {value!r}")
        if ... not in arguments and len(value) != len(arguments):
            raise RecipeError(f"{where}: expected {len(arguments)} values, found {value!r}")
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, dict):
            raise RecipeError(f"{where}: expected a mapping, found {value!r}")
        return {str(key): _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is Literal:
        if value not in arguments:
            raise RecipeError(f"{where}: {value!r} is not one of {', '.join(map(str, arguments))}")
        return value
    if hint is float and isinstance(value, str):  # YAML takes 1e-4, without a point, for text
        with suppress(ValueError):
            return float(value)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise RecipeError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value


def _convert_union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    options = [argument for argument in arguments if argument is not type(None)]
    for option in options[:-1]:
        try:
            return _convert(option, value, where)
        except RecipeError:
            continue
    return _convert(options[-1], value, where)
