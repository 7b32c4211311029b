"""How a checkpoint spells the tree's tensors, as reversible operations.

Canonical names come from the tree ("layers.3.mixer.body.q.weight"). Every part knows its usual Hugging Face spelling;
an architecture adds only its irregular lines. The result is a list of `Tensors`, each a small bijection between tensors
of the file and tensors of the model, which `vitruvius.checkpoints` carries out on arrays in either direction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .base import Spec
from .decoder import Decoder


@dataclass(frozen=True)
class Transpose:
    """The file stores (…, in, out) where a linear layer has (…, out, in); of several tensors only the one at `only`, if
    given."""

    only: int | None = None


@dataclass(frozen=True)
class Split:
    """One tensor of the file holds several of ours side by side along `axis`.

    With `groups`, they lie side by side within each of so many equal groups: queries and gates of each head, gate and
    up rows that alternate.
    """

    axis: int = 0
    groups: int = 1


@dataclass(frozen=True)
class Join:
    """Several tensors of the file are one of ours, side by side along `axis`; `sizes` are theirs."""

    sizes: tuple[int, ...]
    axis: int = 0


@dataclass(frozen=True)
class Reshape:
    """The file has the same numbers in another shape, `theirs`."""

    theirs: tuple[int, ...]


@dataclass(frozen=True)
class Stack:
    """The file has one tensor for each copy (expert); ours are stacked along a new leading axis."""


@dataclass(frozen=True)
class Reorder:
    """Along `axis` the file has `groups` × `rows` × `columns` × `unit` channels, and ours `groups` × `columns` ×
    `rows` × `unit`. Of several tensors only the one at `only`, if given."""

    groups: int
    rows: int
    columns: int
    unit: int = 1
    axis: int = 0
    only: int | None = None


@dataclass(frozen=True)
class Add:
    """The file's numbers lack `value`."""

    value: float


@dataclass(frozen=True)
class LogDecay:
    """The file has −exp(x) where ours is x."""


Shape = tuple[int, ...]
Step = Transpose | Split | Join | Reshape | Stack | Reorder | Add | LogDecay


@dataclass(frozen=True)
class Tensors:
    """Tensors of the file and the tensors of the model they become, step by step on load, backwards on save."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]  # of ours
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Irregular:
    """One line of an architecture's irregular names.

    `ours` is a part of the tree or one weight ("layers.*.mlp.pre"), `theirs` how the file spells it; a `*` on the left
    fills the next `*` on the right, and `{}` stands for an expert's number. With `steps`, `ours` are the complete names
    of weights.
    """

    ours: str | tuple[str, ...]
    theirs: str | tuple[str, ...]
    steps: tuple[Step, ...] = ()

    def filled(self, pattern: str, path: str) -> tuple[str, ...] | None:
        """The file's names for `path`, if it matches `pattern`."""
        theirs = (self.theirs,) if isinstance(self.theirs, str) else self.theirs
        names = [name for template in theirs if (name := fill(pattern, path, template)) is not None]
        return tuple(names) or None


def fill(pattern: str, path: str, template: str) -> str | None:
    """`template` with its stars filled from `path`, if `path` matches `pattern`; else None."""
    wanted, found = pattern.split("."), path.split(".")
    if len(wanted) != len(found):
        return None
    stars = []
    for want, have in zip(wanted, found, strict=True):
        if want == "*":
            stars.append(have)
        elif want != have:
            return None
    for star in stars:
        template = template.replace("*", star, 1)
    return template


def spelled(decoder: Decoder, irregular: Sequence[Irregular], gguf: bool = False) -> list[Tensors]:
    """Every tensor of the model with its name in the file, in Hugging Face's spelling or GGUF's. Names of the model are
    complete: each weight is in one entry."""
    plain, fused = _sorted([*_classifier(decoder, gguf), *irregular])
    entries: list[Tensors] = []
    waiting: dict[tuple[str, ...], dict[str, tuple[str, Shape]]] = {}  # the file's names -> pattern -> what has come
    modules: dict[str, str] = {}
    for ours, name, shape in _spell(decoder, decoder.width, "", "", {}, plain, modules, gguf=gguf):
        theirs = f"{modules['embedding']}.weight" if ours == "head.weight" and decoder.embedding.tied else name
        found = next(((line, p, names) for line, p in fused if (names := line.filled(p, ours))), None)
        if found is None:
            steps: tuple[Step, ...] = (Stack(),) if "{}" in theirs else ()
            entries.append(Tensors(_numbered((theirs,), shape), (ours,), (shape,), steps))
            continue
        line, pattern, names = found
        members = waiting.setdefault(names, {})
        members[pattern] = (ours, shape)
        patterns = (line.ours,) if isinstance(line.ours, str) else line.ours
        if len(members) == len(patterns):
            group = [waiting[names][p] for p in patterns]
            entries.append(
                Tensors(_numbered(names, shape), tuple(o for o, _ in group), tuple(s for _, s in group), line.steps)
            )
            del waiting[names]
    assert not waiting, f"incomplete: {waiting}"
    return entries


def _classifier(decoder: Decoder, gguf: bool = False) -> list[Irregular]:
    """What files call a classifier, whatever the family (transformers, modeling_layers.py)."""
    return [Irregular("head", "cls.output" if gguf else "score")] if decoder.head and not decoder.writes else []


def _numbered(names: tuple[str, ...], shape: Shape) -> tuple[str, ...]:
    """Names with `{}` for an expert's number, written out for every expert."""
    return tuple(n.replace("{}", str(i)) for n in names for i in range(shape[0] if "{}" in n else 1))


def _sorted(irregular: Sequence[Irregular]) -> tuple[list[Irregular], list[tuple[Irregular, str]]]:
    """The lines that only rename, and the others with each of their patterns."""
    plain = [line for line in irregular if not line.steps]
    fused = [line for line in irregular if line.steps]
    return plain, [(line, p) for line in fused for p in ((line.ours,) if isinstance(line.ours, str) else line.ours)]


def module_names(decoder: Decoder, irregular: Sequence[Irregular]) -> dict[str, str]:
    """Canonical path of every part -> the name of the reference's module, to compare a model layer by layer."""
    names: dict[str, str] = {}
    for _ in _spell(decoder, decoder.width, "", "", {}, _sorted([*_classifier(decoder), *irregular])[0], names):
        pass
    return names


def _spell(
    spec: Spec,
    width: int,
    ours: str,
    theirs: str,
    inherited: dict[str, str],
    plain: Sequence[Irregular],
    modules: dict[str, str],
    copies: tuple[int, ...] = (),
    gguf: bool = False,
) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(our name, their name, shape) of every weight below `spec`, which the file calls `theirs`.

    `inherited` are spellings that the parts above gave to slots below ("mixer.pre" by the layer).
    """
    spelling = {**(spec.gguf_spelling if gguf else spec.spelling), **inherited}

    def name(slot: str) -> tuple[str, str]:
        path = _join(ours, slot)
        for line in plain:
            assert isinstance(line.ours, str)
            assert isinstance(line.theirs, str)
            if (filled := fill(line.ours, path, line.theirs)) is not None:
                return path, filled
        head, _, tail = slot.partition(".")
        below = any(key.startswith(f"{slot}.") for key in spelling)
        word = spelling.get(slot) if slot in spelling else _join(spelling.get(head, head), tail)
        return path, _join(theirs, "" if below and slot not in spelling else str(word))

    for key, weight in spec.weights(width).items():
        path, filled = name(key)
        yield path, filled, copies + weight.shape
    for slot, part in spec.parts(width).items():
        path, filled = name(slot)
        modules[path] = filled
        below = {key[len(slot) + 1 :]: word for key, word in spelling.items() if key.startswith(f"{slot}.")}
        stacked = copies if part.copies is None else (*copies, part.copies.size)
        yield from _spell(part.spec, part.width, path, filled, below, plain, modules, stacked, gguf)


def _join(*names: str) -> str:
    return ".".join(name for name in names if name)
