"""A config.json read field by field: what cannot be read is an error that names the file and the field as it has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from peav.errors import CheckpointError

T = TypeVar("T")
_adapter = cache(TypeAdapter)  # building one takes a millisecond


class Field(NamedTuple):
    """A value and where it stands."""

    name: str  # dotted, from the top of the file
    value: Any


@dataclass(frozen=True)
class Section:
    """An object of config.json and where it stands."""

    values: Mapping[str, Any]
    file: str
    name: str = ""  # dotted, ends in a dot; empty for the whole file

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def section(self, key: str, default: Mapping[str, Any] | None = None) -> Section:
        """An object within this one; `default` where it is absent, null or empty. Raises CheckpointError for others."""
        values = self.values.get(key)
        if values is not None and not isinstance(values, dict):
            raise self.error(key, f"is {_short(values)}, which is no object")
        return Section(values or default or {}, self.file, f"{self.name}{key}.")

    def field(self, key: str, default: Any = None) -> Field:
        """A value; `default` where it is absent."""
        return Field(self.name + key, self.values.get(key, default))

    def given(self, key: str, default: Any) -> Field:
        """A value; `default` where it is absent or null."""
        found = self.field(key)
        return found if found.value is not None else found._replace(value=default)

    def build(self, kind: type[T], **fields: Any) -> T:
        """A config of fields and configs. Raises CheckpointError for values that it does not take."""
        names = {key: field.name for key, field in fields.items() if isinstance(field, Field)}
        values = {key: field.value if isinstance(field, Field) else field for key, field in fields.items()}
        return self._checked(kind, values, names)

    def read(self, kind: type[T]) -> T:
        """The section as a config whose fields have our own names. Raises CheckpointError as `build` does."""
        return self._checked(kind, self.values, {})

    def take(self, kind: Any, field: Field) -> Any:
        """One value of an annotated kind, such as `config.Layers`. Raises CheckpointError for another."""
        return self._checked(dict[str, kind], {"": field.value}, {"": field.name})[""]

    def require(self, key: str, value: Any) -> None:
        """Raises CheckpointError where a field is there and asks for what no PE-AV model has."""
        found = self.values.get(key)
        if found is not None and found != value:
            raise self.error(key, f"is {_short(found)}: peav has PE-AV's own {_short(value)} alone")

    def error(self, key: str, message: str) -> CheckpointError:
        """An error about one field of this section."""
        return CheckpointError(f"{self.file}: {self.name}{key} {message}")

    def _checked(self, kind: Any, values: Any, names: dict[str, str]) -> Any:
        try:
            return _adapter(kind).validate_python(values)
        except ValidationError as error:
            # A field under a wrong name is missing under its own: what is there says more.
            first = min(error.errors(include_url=False), key=lambda found: found["type"] == "missing")
            head, *rest = [str(step) for step in first["loc"]] or [""]
            where = ".".join([names.get(head, (self.name + head).removesuffix(".")), *rest])
            about_one = first["type"] not in ("missing", "value_error")
            value = f" is {_short(first['input'])}" if about_one else ""
            message = first["msg"].removeprefix("Value error, ")
            raise CheckpointError(f"{self.file}: {where}{value}: {message[0].lower()}{message[1:]}") from None


def _short(value: Any) -> str:
    """A value for a message, at most a line of it."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}..."
