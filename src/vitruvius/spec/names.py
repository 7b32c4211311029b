"""How a checkpoint spells the tree's tensors, as reversible operations.

Canonical names come from the tree ("layers.3.mixer.body.q.weight"). Every part knows its usual Hugging Face spelling;
an architecture adds only its irregular lines. The result is a list of `Tensors`, each a small bijection between tensors
of the file and tensors of the model, which `vitruvius.checkpoints` carries out on arrays in either direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .base import Spec
from .config import Config
from .decoder import Decoder


@dataclass(frozen=True)
class Transpose:
    """The file stores (in, out) where a linear layer has (out, in)."""


@dataclass(frozen=True)
class Split:
    """One tensor of the file holds several of ours side by side along `axis`."""

    axis: int = 0


@dataclass(frozen=True)
class Stack:
    """The file has one tensor for each copy (expert); ours are stacked along a new leading axis."""


Step = Transpose | Split | Stack


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
    theirs: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Family:
    """An architecture: the config.json files it reads (`model_types`), the spec they describe, and the names it spells
    its own way.

    Args:
        spec: config -> decoder. Every key is read, or named in `ignored`.
        irregular: decoder -> irregular names.
        ignored: keys that are knowingly ignored.
        unused: patterns of tensors that the files hold and the model does not need.
        bare: a prefix of the names that files may leave out.
    """

    model_types: tuple[str, ...]
    spec: Callable[[Config], Decoder]
    irregular: Callable[[Decoder], Sequence[Irregular]] = lambda decoder: ()
    ignored: frozenset[str] = frozenset()
    unused: tuple[str, ...] = ()
    bare: str = ""


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


def spelled(decoder: Decoder, irregular: Sequence[Irregular]) -> list[Tensors]:
    """Every tensor of the model with its name in the file. Names of the model are complete: each weight is in one
    entry."""
    plain = [line for line in irregular if isinstance(line.ours, str) and not line.steps]
    special = [(line.ours if isinstance(line.ours, tuple) else (line.ours,), line) for line in irregular if line.steps]
    entries: dict[tuple[str, ...], Tensors] = {}
    waiting: dict[str, dict[str, tuple[int, ...]]] = {}
    modules: dict[str, str] = {}
    for ours, name, shape in _spell(decoder, decoder.width, "", "", {}, plain, modules):
        theirs = f"{modules['embedding']}.weight" if ours == "head.weight" and decoder.embedding.tied else name
        for patterns, line in special:
            filled = next((match for p in patterns if (match := fill(p, ours, line.theirs))), None)
            if filled is None:
                continue
            group = waiting.setdefault(filled, {})
            group[ours] = shape
            if len(group) == len(patterns):
                entries[(filled,)] = Tensors((filled,), tuple(group), tuple(group.values()), line.steps)
            break
        else:
            names: tuple[str, ...] = (theirs,)
            steps: tuple[Step, ...] = ()
            if "{}" in theirs:
                names = tuple(theirs.replace("{}", str(i)) for i in range(shape[0]))
                steps = (Stack(),)
            entries[names] = Tensors(names, (ours,), (shape,), steps)
    return list(entries.values())


def module_names(decoder: Decoder, irregular: Sequence[Irregular]) -> dict[str, str]:
    """Canonical path of every part -> the name of the reference's module, to compare a model layer by layer."""
    plain = [line for line in irregular if isinstance(line.ours, str) and not line.steps]
    names: dict[str, str] = {}
    for _ in _spell(decoder, decoder.width, "", "", {}, plain, names):
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
) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(our name, their name, shape) of every weight below `spec`, which the file calls `theirs`.

    `inherited` are spellings that the parts above gave to slots below ("mixer.pre" by the layer).
    """
    spelling = {**spec.spelling, **inherited}

    def name(slot: str) -> tuple[str, str]:
        path = _join(ours, slot)
        for line in plain:
            assert isinstance(line.ours, str)
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
        stacked = copies if part.copies is None else (*copies, part.copies)
        yield from _spell(part.spec, part.width, path, filled, below, plain, modules, stacked)


def _join(*names: str) -> str:
    return ".".join(name for name in names if name)
