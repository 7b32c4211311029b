"""Editing a tree, and writing it as JSON and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Literal, TypeVar, get_args, get_origin

from .base import Size, Spec, hints, options
from .registry import NOUNS

T = TypeVar("T", bound=Spec)
New = Any | Callable[[Any], Any]


def edit(tree: T, pattern: str, new: New) -> T:
    """The tree with every place that `pattern` names replaced by `new`.

    A path is made of fields, positions in a tuple and names of branches: "layers.*.mixer.body",
    "layers.3.mlp.body.dim", "head.softcap". A `*` stands for any one step, and numbers may be listed as "0,2,4". `new`
    is a value, or a function of the old one. Raises ValueError if nothing is there, or if the result contradicts
    itself.
    """
    places = 0

    def change(value: Any, steps: list[str], where: str) -> Any:
        nonlocal places
        if not steps:
            places += 1
            return new(value) if callable(new) else new
        step, rest = steps[0], steps[1:]
        if isinstance(value, tuple):
            return tuple(
                change(item, rest, f"{where}.{_name(item, i)}") if _chosen(step, item, i) else item
                for i, item in enumerate(value)
            )
        if not isinstance(value, Spec):
            raise ValueError(f"{pattern!r}: {where or 'the tree'} has no parts")
        names = [f.name for f in fields(value)]
        if step in names:
            return _with(value, step, change(getattr(value, step), rest, f"{where}.{step}".strip(".")))
        if "branches" in names:  # a branch goes by its name alone: layers.3.mixer
            return _with(value, "branches", change(getattr(value, "branches"), steps, where))  # noqa: B009
        if step == "*":
            for name in names:
                if isinstance(part := getattr(value, name), Spec):
                    value = _with(value, name, change(part, rest, f"{where}.{name}".strip(".")))
            return value
        raise ValueError(f"{pattern!r}: {where or 'the tree'} has no {step!r} (it has {', '.join(names)})")

    edited: T = change(tree, pattern.split("."), "")
    if not places:
        raise ValueError(f"{pattern!r} matches nothing in the tree")
    return edited


def _with(value: Spec, field: str, new: Any) -> Spec:
    return replace(value, **{field: new})


def _name(item: Any, index: int) -> str:
    return str(getattr(item, "name", index))


def _chosen(step: str, item: Any, index: int) -> bool:
    return step == "*" or step == _name(item, index) or str(index) in step.split(",")


def to_json(value: Any) -> Any:
    """A tree as plain JSON: each part an object with its class under "is"."""
    if isinstance(value, Spec):
        kept = [f for f in fields(value) if f.compare or f.name == "name"]
        return {"is": type(value).__name__} | {f.name: to_json(getattr(value, f.name)) for f in kept}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return value


def from_json(value: Any) -> Any:
    """The tree that `to_json` wrote. Raises ValueError for classes or fields that do not exist."""
    if isinstance(value, list):
        return tuple(from_json(item) for item in value)
    if not isinstance(value, dict):
        return value
    name = str(value.get("is"))
    cls: Any = NOUNS.find(name)
    if cls is None:
        raise ValueError(f"the tree holds a part of the unknown kind {name!r}")
    known = {f.name for f in fields(cls)}
    given = {key: from_json(item) for key, item in value.items() if key != "is"}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"{name} has no {', '.join(unknown)}")
    for key, item in given.items():
        if not fits(item, hints(cls)[key]):
            raise ValueError(f"{name}.{key} cannot be {_short(item)}")
    try:
        return cls(**given)
    except TypeError as error:  # a field is missing
        raise ValueError(f"{name}: {error}") from None


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the annotated type, as far as specs use annotations. Sizes are checked by the part
    itself."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or hint == Size:
        return True
    if len(choices := options(hint)) > 1:
        return any(fits(value, choice) for choice in choices)
    if origin is Literal:
        return value in arguments
    if origin is tuple and arguments[-1] is Ellipsis:
        return isinstance(value, tuple) and all(fits(item, arguments[0]) for item in value)
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(arguments) and all(map(fits, value, arguments))
    if hint in (int, bool, str):
        return type(value) is hint
    if hint is float:
        return type(value) in (int, float)
    return isinstance(value, origin or hint)


def _short(value: Any) -> str:
    return type(value).__name__ if isinstance(value, Spec) else repr(value)[:60]
