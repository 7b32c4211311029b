"""What can differ between two parts of the same kind: their fields, in the names and words of their descriptions."""

from __future__ import annotations

from dataclasses import fields, replace

from ..spec import Spec
from .description import Aspect, cached
from .nouns import describe, title


@cached
def aspects(spec: Spec, role: str = "") -> tuple[Aspect, ...]:
    """What to compare of a part that is its owner's `role` ("feed-forward", "query"): each of its fields once."""
    special = [_of(role, aspect) for aspect in describe(spec).aspects]
    covered = {path for aspect in special for path in aspect.fields}
    found = [aspect for aspect in special if not aspect.fields]
    own = [f.name for f in fields(spec) if f.compare]
    for name in dict.fromkeys((*describe(spec).names, *own)):
        found += [aspect for aspect in special if aspect.fields and aspect.fields[0].split(".")[0] == name]
        found += _field(spec, name, role, covered) if name not in covered else []
    return tuple(found)


def _of(role: str, aspect: Aspect) -> Aspect:
    return replace(aspect, label=aspect.label.format(role=role), role=aspect.role.format(role=role))


def _field(spec: Spec, name: str, role: str, covered: set[str]) -> list[Aspect]:
    value = getattr(spec, name)
    if isinstance(value, tuple) and all(isinstance(item, Spec) for item in value):
        return [Aspect("", item, (title(item),), role) for item in value]  # branches
    label = describe(spec).names.get(name, name.replace("_", " "))
    label, whose = (label, "{role}") if isinstance(label, str) else label
    inside = frozenset(path.removeprefix(f"{name}.") for path in covered if path.startswith(f"{name}."))
    return [_of(role, Aspect(label, value, (name,), whose, done=inside))]
