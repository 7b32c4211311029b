"""What the fields of a request are called and what each does, for the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .fields import LARGEST, Derived, Either, Field, Kind, ListOf, MapOf, Object, Tagged


def listed(body: Object) -> Iterator[tuple[str, Field]]:
    """Every field with its place, such as `messages[].content`; those of one name and effect once."""
    seen: set[tuple[str, str]] = set()
    for place, entry in _fields(body, ""):
        if (place, entry.effect) not in seen:
            seen.add((place, entry.effect))
            yield place, entry


def _fields(kind: Kind, at: str) -> Iterator[tuple[str, Field]]:
    match kind:
        case Object():
            for name, entry in kind.fields.items():
                place = f"{at}.{name}" if at else name
                yield place, entry
                yield from _fields(entry.kind, place)
        case Tagged():
            for each in kind.objects.values():
                yield from _fields(each, at)
        case ListOf():
            yield from _fields(kind.kind, f"{at}[]")
        case Derived():
            yield from _fields(kind.kind, at)
        case MapOf():
            yield from _fields(kind.kind, f"{at}.*")
        case Either():
            for other in kind.kinds:
                yield from _fields(other, at)


def phrase(schema: Mapping[str, Any]) -> str:
    """What values a JSON schema allows, in few words."""
    match schema:
        case {"anyOf": kinds}:
            return " or ".join(dict.fromkeys(phrase(kind) for kind in kinds if kind != {"type": "null"}))
        case {"enum": values}:
            return ", ".join("true" if v is True else "false" if v is False else str(v) for v in values)
        case {"type": "array", "items": items}:
            return f"list of {phrase(items)}"
        case {"type": "number" | "integer" as kind}:
            least, most = schema.get("minimum", schema.get("exclusiveMinimum")), schema["maximum"]
            word = "number" if kind == "number" else "whole number"
            above = "above" if "exclusiveMinimum" in schema else "from"
            return f"{word} {above} {_shown(least)}" + ("" if most == LARGEST else f" to {_shown(most)}")
        case {"type": "boolean"}:
            return "true or false"
        case {"type": "string"}:
            return "text"
        case {"type": "object"}:
            return "object"
    return "anything"


def _shown(value: float) -> str:
    exact = {2**31 - 1: "2³¹ − 1", -(2**31): "−2³¹", -(2**63): "−2⁶³"}
    return exact.get(value, f"{value:,g}".replace("-", "−"))  # type: ignore[call-overload]
