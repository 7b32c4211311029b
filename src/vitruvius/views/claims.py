"""Popular claims about architectures, each with what the library computes of it.

The claims are data, `catalog/claims.json`. What is to be computed is data too, an expression of a few forms:

- a number;
- `{"model": NAME, "read": PATH}`: what stands at a path of the definition ("layers.0.mixer.body.heads"), the same at
  every place that the path names. A part is read as its title, a branch as its equation;
- `{"model": NAME, "count": PATH, "is": CLASS}`: at how many of the places stands a part of this class
  ("none": nothing);
- `{"model": NAME, "cost": FIGURE}`: a figure of `vitruvius.cost` ("state.bytes"), with `context` and `dtype` if given;
- `{"sum": […]}`, `{"product": […]}`, `{"difference": [a, b]}`, `{"ratio": [a, b]}`, `{"percent": [a, b]}` of
  expressions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from math import prod
from typing import Any, Literal, get_args

from .. import catalog
from ..cost import cost
from ..cost.quantity import number
from ..spec import Decoder, Spec, edit
from .description import shown
from .nouns import describe, title

Architecture = Callable[[str], Decoder]  # name -> definition
Value = int | float | str
Verdict = Literal["wrong", "right", "partly right", "misread"]

_ARITHMETIC: dict[str, Callable[..., float]] = {
    "sum": lambda *values: sum(values),
    "product": lambda *values: prod(values),
    "difference": lambda a, b: a - b,
    "ratio": lambda a, b: a / b,
    "percent": lambda a, b: 100 * a / b,
}


@dataclass(frozen=True)
class Check:
    """One computed value of a claim: what it is, the expression, the value recorded as right, and its unit."""

    what: str
    value: Any
    recorded: Value
    unit: str = ""

    def computed(self, architecture: Architecture) -> Value:
        """The value of the expression, rounded to the decimals of the recorded one if that has any."""
        value = evaluate(self.value, architecture)
        if isinstance(value, str):
            return value
        if isinstance(self.recorded, float):
            return round(float(value), len(repr(self.recorded).partition(".")[2]))
        return int(value) if value == int(value) else value

    def shown(self, architecture: Architecture) -> str:
        """The computed value as text: "5,376", "68.6 KiB"."""
        value = self.computed(architecture)
        text = value if isinstance(value, str) else number(value) if isinstance(value, int) else f"{value:,}"
        return f"{text}{'' if self.unit in ('', '%') else ' '}{self.unit}"


@dataclass(frozen=True)
class Claim:
    """A claim in few words, whether it is right, what is right, where that is said in public, and what is computed."""

    id: str
    topic: str
    claim: str
    verdict: Verdict
    right: str
    sources: tuple[str, ...]
    checks: tuple[Check, ...]


def claims() -> tuple[Claim, ...]:
    """All claims, in the order of the file."""
    text = resources.files(catalog).joinpath("claims.json").read_text("utf-8")
    return tuple(_claim(record) for record in json.loads(text))


def _claim(record: dict[str, Any]) -> Claim:
    checks = tuple(
        Check(check["what"], check["value"], check["is"], check.get("unit", "")) for check in record.pop("checks", ())
    )
    assert record["verdict"] in get_args(Verdict), record
    return Claim(sources=tuple(record.pop("sources")), checks=checks, **record)


def topics(some: Sequence[Claim]) -> dict[str, list[Claim]]:
    """The claims by topic, in order of appearance."""
    found: dict[str, list[Claim]] = {}
    for claim in some:
        found.setdefault(claim.topic, []).append(claim)
    return found


def models(expression: Any) -> set[str]:
    """The models that an expression asks."""
    if isinstance(expression, dict):
        own = {expression["model"]} if "model" in expression else set()
        return own.union(*(models(value) for key, value in expression.items() if key in _ARITHMETIC))
    return set().union(*map(models, expression)) if isinstance(expression, list) else set()


def evaluate(expression: Any, architecture: Architecture) -> Value:
    """The value of an expression. Raises ValueError for a form or a place that does not exist."""
    match expression:
        case int() | float():
            return expression
        case {"model": str(name), "read": str(path)} if len(expression) == 2:
            return _read(architecture(name), path)
        case {"model": str(name), "count": str(path), "is": str(kind)} if len(expression) == 3:
            return sum(_kind(value) == kind for value in _places(architecture(name), path))
        case {"model": str(name), "cost": str(figure)} if expression.keys() <= {"model", "cost", "context", "dtype"}:
            found = cost(architecture(name), expression.get("context"), dtype=expression.get("dtype", "bf16"))
            return _figure(found, figure)
        case dict() if len(expression) == 1 and expression.keys() <= _ARITHMETIC.keys():
            ((form, values),) = expression.items()
            return _ARITHMETIC[form](*(evaluate(value, architecture) for value in values))
    raise ValueError(f"no such expression: {expression!r}")


def _places(arch: Decoder, path: str) -> list[Any]:
    """What stands at every place that the path names, in the language of `vitruvius.replace`."""
    found: list[Any] = []

    def keep(value: Any) -> Any:
        found.append(value)
        return value

    edit(arch, path, keep)
    return found


def _read(arch: Decoder, path: str) -> Value:
    values = set(map(_as_value, _places(arch, path)))
    if len(values) > 1:
        raise ValueError(f"{arch.name} holds several values at {path!r}: {', '.join(sorted(map(str, values)))}")
    return values.pop()


def _as_value(value: Any) -> Value:
    if isinstance(value, Spec):
        frame = describe(value).picture.frame
        return (describe(value).equation if frame else None) or title(value)
    return value if type(value) in (int, float) else shown(value)


def _kind(value: Any) -> str:
    return "none" if value is None else type(value).__name__


def _figure(of: Any, path: str) -> Value:
    for step in path.split("."):
        of = of[step] if isinstance(of, Mapping) else getattr(of, step)
    if type(of) not in (int, float):
        raise ValueError(f"{path!r} is no figure of a cost")
    value: Value = of
    return value
