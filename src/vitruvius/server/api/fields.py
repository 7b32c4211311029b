"""What a request may hold: a small language of kinds of JSON values.

A kind reads a value, or says in one line why it cannot be; and it says the same as a JSON schema, which is published.
So what is accepted, what is promised and what the documentation lists are one thing.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, Protocol

from .errors import RefusedError

Effect = Literal["honoured", "accepted"]  # whether a field changes the answer; those that do not are taken without it
LARGEST = 2**63 - 1  # a whole number that every client can hold


class Kind(Protocol):
    """A kind of JSON values."""

    def read(self, value: Any, at: str) -> Any:
        """The value, as it is used. Raises RefusedError (400) where it is none of the kind; `at` names its place."""
        ...

    def schema(self) -> dict[str, Any]:
        """The same as a JSON schema."""
        ...


def unfit(at: str, rule: str, value: Any) -> RefusedError:
    """What is said of a value that is none of its kind."""
    shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:59]}…"
    return RefusedError(400, f"{at} must be {rule}, got {shown}", at, "invalid_value")


@dataclass(frozen=True)
class String:
    """A text."""

    least: int = 0
    most: int | None = None
    pattern: str | None = None

    def read(self, value: Any, at: str) -> str:
        """See `Kind`."""
        if not isinstance(value, str):
            raise unfit(at, "a text", value)
        if len(value) < self.least or (self.most is not None and len(value) > self.most):
            most = f" and at most {self.most:,}" if self.most is not None else ""
            raise unfit(at, f"a text of at least {self.least:,}{most} characters", value)
        if self.pattern and not re.search(self.pattern, value):
            raise unfit(at, f"a text that fits {self.pattern}", value)
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise unfit(at, "a text without halves of characters (lone surrogates)", value)
        return value

    def schema(self) -> dict[str, Any]:
        """See `Kind`."""
        found: dict[str, Any] = {"type": "string"}
        found |= {"minLength": self.least} if self.least else {}
        found |= {"maxLength": self.most} if self.most is not None else {}
        return found | ({"pattern": self.pattern} if self.pattern else {})


@dataclass(frozen=True)
class Number:
    """A number, bounds included."""

    least: float
    most: float
    above: bool = False  # whether the lower bound is excluded

    def read(self, value: Any, at: str) -> float:
        """See `Kind`."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not self.least <= value <= self.most or (self.above and value == self.least):
            raise unfit(at, f"a number {'above' if self.above else 'from'} {self.least:g} to {self.most:g}", value)
        return float(value)

    def schema(self) -> dict[str, Any]:
        """See `Kind`."""
        return {"type": "number", "exclusiveMinimum" if self.above else "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Whole:
    """A whole number, bounds included."""

    least: int = 0
    most: int = LARGEST

    def read(self, value: Any, at: str) -> int:
        """See `Kind`. 3.0 is one: in JSON it is the same number as 3."""
        if isinstance(value, float) and isfinite(value) and value == int(value):
            value = int(value)
        if type(value) is not int or not self.least <= value <= self.most:
            most = "" if self.most == LARGEST else f" to {self.most:,}"
            raise unfit(at, f"a whole number from {self.least:,}{most}", value)
        return int(value)

    def schema(self) -> dict[str, Any]:
        """See `Kind`."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def read(self, value: Any, at: str) -> bool:
        """See `Kind`."""
        if not isinstance(value, bool):
            raise unfit(at, "true or false", value)
        return value

    def schema(self) -> dict[str, Any]:
        """See `Kind`."""
        return {"type": "boolean"}


@dataclass(frozen=True, init=False)
class Only:
    """One of a few values."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        object.__setattr__(self, "values", values)

    def read(self, value: Any, at: str) -> Any:
        """See `Kind`."""
        if not any(type(value) is type(each) and value == each for each in self.values):
            raise unfit(at, " or ".join(repr(each) for each in self.values), value)
        return value

    def schema(self) -> dict[str, Any]:
        """See `Kind`."""
        return {"enum": list(self.values)}


@dataclass(frozen=True)
class Anything:
    """Any JSON value."""

    def read(self, value: Any, at: str) -> Any:
        """See `Kind`."""
        return value

    def schema(self) -> dict[str, Any]:
        """See `Kind`."""
        return {}


@dataclass(frozen=True)
class ListOf:
    """A list."""

    kind: Kind
    least: int = 0
    most: int | None = None

    def read(self, value: Any, at: str) -> list[Any]:
        """See `Kind`."""
        if not isinstance(value, list):
            raise unfit(at, "a list", value)
        if len(value) < self.least or (self.most is not None and len(value) > self.most):
            most = f" and at most {self.most:,}" if self.most is not None else ""
            raise RefusedError(400, f"{at} must have at least {self.least:,}{most} items, got {len(value):,}", at)
        return [self.kind.read(item, f"{at}[{i}]") for i, item in enumerate(value)]

    def schema(self) -> dict[str, Any]:
        """See `Kind`."""
        found: dict[str, Any] = {"type": "array", "items": self.kind.schema()}
        found |= {"minItems": self.least} if self.least else {}
        return found | ({"maxItems": self.most} if self.most is not None else {})


@dataclass(frozen=True)
class MapOf:
    """An object with any names."""

    kind: Kind = Anything()
    names: str | None = None  # a pattern that they fit
    most: int | None = None

    def read(self, value: Any, at: str) -> dict[str, Any]:
        """See `Kind`."""
        if not isinstance(value, dict):
            raise unfit(at, "an object", value)
        if self.most is not None and len(value) > self.most:
            raise RefusedError(400, f"{at} must have at most {self.most:,} entries, got {len(value):,}", at)
        for name in value:
            if self.names and not re.search(self.names, name):
                raise unfit(at, f"an object whose names fit {self.names}", name)
        return {name: self.kind.read(item, f"{at}.{name[:60]}") for name, item in value.items()}

    def schema(self) -> dict[str, Any]:
        """See `Kind`."""
        found: dict[str, Any] = {"type": "object", "additionalProperties": self.kind.schema()}
        found |= {"propertyNames": {"pattern": self.names}} if self.names else {}
        return found | ({"maxProperties": self.most} if self.most is not None else {})


@dataclass(frozen=True, init=False)
class Either:
    """A value of the first kind that fits."""

    kinds: tuple[Kind, ...]

    def __init__(self, *kinds: Kind) -> None:
        object.__setattr__(self, "kinds", kinds)

    def read(self, value: Any, at: str) -> Any:
        """See `Kind`. What is said is of the kind that comes nearest: of the deepest place."""
        deepest: RefusedError | None = None
        for kind in self.kinds:
            try:
                return kind.read(value, at)
            except RefusedError as refusal:
                if deepest is None or len(refusal.param or "") > len(deepest.param or ""):
                    deepest = refusal
        assert deepest
        raise deepest

    def schema(self) -> dict[str, Any]:
        """See `Kind`."""
        return {"anyOf": [kind.schema() for kind in self.kinds]}


class Derived(ABC):
    """A kind that makes something else of the values of another `kind`."""

    kind: Kind

    @abstractmethod
    def read(self, value: Any, at: str) -> Any:
        """See `Kind`."""

    def schema(self) -> dict[str, Any]:
        """See `Kind`."""
        return self.kind.schema()


@dataclass(frozen=True)
class Field:
    """A field of an object. One that is null is as one that is not there, but where it is required.

    Args:
        kind: of its value.
        about: what it does, for the documentation; nothing to say where everybody knows.
        effect: whether it changes the answer.
        required: whether it must be there.
    """

    kind: Kind
    about: str = ""
    effect: Effect = "honoured"
    required: bool = False


def accepted(kind: Kind, about: str = "") -> Field:
    """A field that may be there, and changes nothing."""
    return Field(kind, about, "accepted")


def required(kind: Kind, about: str = "") -> Field:
    """A field that must be there."""
    return Field(kind, about, required=True)


@dataclass(frozen=True)
class Object:
    """An object with these fields, and no others but nulls.

    Args:
        fields: by name.
        refused: fields that clients know and that are refused, with the reason.
    """

    fields: Mapping[str, Field]
    refused: Mapping[str, str] = field(default_factory=dict)

    def read(self, value: Any, at: str) -> dict[str, Any]:
        """See `Kind`; without the fields that are null."""
        if not isinstance(value, dict):
            raise unfit(at or "the request", "an object", value)
        found = {}
        for name, item in value.items():
            place = f"{at}.{name}" if at else name
            entry = self.fields.get(name)
            if entry is None and item is not None:
                raise self._unknown(name, place)
            if entry and item is not None:
                found[name] = entry.kind.read(item, place)
        for name, entry in self.fields.items():
            if entry.required and name not in found:
                raise RefusedError(
                    400, f"{f'{at}.{name}' if at else name} is missing", name, "missing_required_parameter"
                )
        return found

    def _unknown(self, name: str, place: str) -> RefusedError:
        why = self.refused.get(name, "it is not known")
        return RefusedError(400, f"the field {place[:80]!r} cannot be used: {why}", place[:80], "unsupported_parameter")

    def schema(self) -> dict[str, Any]:
        """See `Kind`."""
        found: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": {"type": "null"}}
        for name, entry in self.fields.items():
            own = entry.kind.schema()
            described = {"description": entry.about} if entry.about else {}
            found["properties"][name] = (own if entry.required else _or_null(own)) | described
        needed = [name for name, entry in self.fields.items() if entry.required]
        return found | ({"required": needed} if needed else {})


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a value that may be null."""
    if not schema:
        return schema
    if set(schema) == {"anyOf"}:
        return {"anyOf": [*schema["anyOf"], {"type": "null"}]}
    return {"anyOf": [schema, {"type": "null"}]}


@dataclass(frozen=True)
class Tagged:
    """An object whose field `tag` says which of several it is."""

    tag: str
    objects: Mapping[str, Object]
    otherwise: str | None = None  # where the tag is missing

    def read(self, value: Any, at: str) -> dict[str, Any]:
        """See `Kind`."""
        if not isinstance(value, dict):
            raise unfit(at, "an object", value)
        name = value.get(self.tag, self.otherwise)
        if not isinstance(name, str) or name not in self.objects:
            raise unfit(f"{at}.{self.tag}", " or ".join(map(repr, self.objects)), name)
        rest = {key: item for key, item in value.items() if key != self.tag}
        return {self.tag: name, **self.objects[name].read(rest, at)}

    def schema(self) -> dict[str, Any]:
        """See `Kind`."""
        return {"anyOf": [self._one(name, kind.schema()) for name, kind in self.objects.items()]}

    def _one(self, name: str, schema: dict[str, Any]) -> dict[str, Any]:
        required = schema.get("required", [])
        required = required if name == self.otherwise else [self.tag, *required]
        found = {**schema, "properties": {self.tag: {"enum": [name]}, **schema["properties"]}}
        return found | ({"required": required} if required else {})
