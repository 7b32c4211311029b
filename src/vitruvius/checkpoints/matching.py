"""Matching a checkpoint's tensors with a model's: a bijection, or an error that shows both sides."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from ..architectures import family_of
from ..errors import InputError
from ..spec import Decoder, Family, Irregular, Join, Tensors, spelled
from . import mistral
from .gguf import names as gguf_names
from .steps import Shape, file_shapes

if TYPE_CHECKING:
    from .gguf import GGUF
    from .stored import Container

# How files put a text model inside a multimodal one: our name -> theirs.
PLACES: tuple[Callable[[str], str], ...] = (
    lambda name: name,
    lambda name: name.removeprefix("model."),  # as a class without a head saves itself
    lambda name: f"language_model.{name}",
    lambda name: name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name,
)


TIED = ("model.embed_tokens.weight", "lm_head.weight")

# The classes that are written with an edited tree (vitruvius/exported), and where the names of the first are not the
# usual ones: norms before and after each branch have names of their own.
PLAIN_CLASS, TREE_CLASS = "VitruviusForCausalLM", "VitruviusTreeForCausalLM"
EXPORTED = (
    Irregular("layers.*.mixer.post", "model.layers.*.post_attention_layernorm"),
    Irregular("layers.*.mlp.pre", "model.layers.*.pre_feedforward_layernorm"),
    Irregular("layers.*.mlp.post", "model.layers.*.post_feedforward_layernorm"),
)


@dataclass(frozen=True)
class LoadPlan:
    """Which tensors of the file become which of the model, and which are knowingly left out."""

    entries: tuple[Tensors, ...]
    unused: tuple[str, ...]


def match(
    decoder: Decoder,
    container: Container,
    config: Mapping[str, Any],
    ignore: Collection[str] = (),
    mtp: bool = False,
) -> LoadPlan:
    """The plan by which tensors with Hugging Face's names fill the model of `decoder`.

    Args:
        config: the config.json beside them: one with a tree has the tree's own names, a wrapper's other parts are no
            part of the model.
        ignore: names or patterns of tensors that may be left out.
        mtp: whether the layers for multi-token prediction are wanted too.

    Raises InputError, in one line, where a tensor is missing, unknown, of another shape, or in the file twice.
    """
    family, have = family_of(decoder), container.shapes()
    if mistral.TABLE in have:
        return _planned(decoder, container, mistral.names(decoder, have), mistral.beside(have), ignore, mtp)
    every = list(names_in(decoder, config))
    place = _place(every, family, have)
    every = [_as_cut(replace(entry, theirs=tuple(map(place, entry.theirs))), have) for entry in every]
    table, head = map(place, TIED)
    if decoder.embedding.tied and head in have and table not in have:  # one matrix, under either name
        names = {table: head}
        every = [replace(entry, theirs=tuple(names.get(name, name) for name in entry.theirs)) for entry in every]
    patterns = [*family.unused, *map(place, family.unused)]
    if decoder.embedding.tied or decoder.head is None:
        patterns.append(place("lm_head.weight"))
    text = ("language_model.", "model.language_model.", "model.layers.", "lm_head.")
    beside = {name for name in have if not name.startswith(text)} if "text_config" in config else set()
    return _planned(decoder, container, every, beside | _like(have, patterns), ignore, mtp)


def match_gguf(decoder: Decoder, gguf: GGUF, ignore: Collection[str] = (), mtp: bool = False) -> LoadPlan:
    """The plan by which the tensors of a GGUF file fill the model of `decoder`; as `match`."""
    architecture, have = str(gguf.metadata.get("general.architecture")), gguf.shapes()
    every = gguf_names.entries(architecture, decoder, have)
    return _planned(decoder, gguf, every, gguf_names.unused(architecture, decoder, have), ignore, mtp)


def _planned(
    decoder: Decoder,
    container: Container,
    every: Sequence[Tensors],
    unused: Collection[str],
    ignore: Collection[str],
    mtp: bool,
) -> LoadPlan:
    """The plan, if every tensor has its place; those in `unused` need none."""
    have = container.shapes()
    entries = tuple(entry for entry in every if mtp or not entry.ours[0].startswith("mtp."))
    wanted = {name: shape for entry in entries for name, shape in file_shapes(entry).items()}
    extra = {name for entry in every for name in entry.theirs if name not in wanted} & have.keys()
    extra |= (set(unused) | _like(have, ignore)) - wanted.keys()
    missing, unknown = sorted(wanted.keys() - have.keys()), sorted(have.keys() - wanted.keys() - extra)
    if missing or unknown:
        sides = [_listed(missing, "missing")] * bool(missing) + [_listed(unknown, "unknown")] * bool(unknown)
        raise InputError(f"{container.path}: does not match {decoder.name}: {'; '.join(sides)}")
    for name, shape in wanted.items():
        if have[name] != shape:
            raise InputError(f"{container.path}: {name} has the shape {have[name]}, but {decoder.name} needs {shape}")
    return LoadPlan(entries, tuple(sorted(extra)))


def _like(names: Iterable[str], patterns: Collection[str]) -> set[str]:
    return {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}


def _as_cut(entry: Tensors, have: Mapping[str, Shape]) -> Tensors:
    """The entry, a join with the sizes that the file has. What transformers has joined it saves in equal parts,
    whatever they were (Olmo Hybrid's convolutions), and joins again."""
    match entry.steps:
        case (Join(sizes=sizes, axis=axis),):
            cut = tuple(have[name][axis] for name in entry.theirs if name in have and len(have[name]) > axis)
            if len(cut) == len(sizes) and sum(cut) == sum(sizes):
                return replace(entry, steps=(Join(cut, axis),))
    return entry


def plain(decoder: Decoder) -> tuple[Tensors, ...]:
    """The names of a checkpoint that holds this model and nothing else."""
    return tuple(spelled(decoder, family_of(decoder).irregular(decoder)))


def names_in(decoder: Decoder, config: Mapping[str, Any]) -> tuple[Tensors, ...]:
    """The names that go with a config.json: those of its family, or of the code that is written with a tree."""
    if "tree" not in config:
        return plain(decoder)
    its_class = config.get("architectures")
    if its_class == [PLAIN_CLASS]:
        return exported(decoder)
    return inside(decoder) if its_class == [TREE_CLASS] else canonical(decoder)


def exported(decoder: Decoder) -> tuple[Tensors, ...]:
    """The names in vitruvius/exported/modeling_vitruvius.py, of a tree of plain attention layers."""
    return tuple(spelled(decoder, EXPORTED))


def inside(decoder: Decoder) -> tuple[Tensors, ...]:
    """The tree's own names, of a model inside transformers' class."""
    return tuple(replace(entry, theirs=tuple(f"model.{name}" for name in entry.theirs)) for entry in canonical(decoder))


def canonical(decoder: Decoder) -> tuple[Tensors, ...]:
    """The tree's own names, for a tree that is written with its tensors."""
    return tuple(
        Tensors((name,), (name,), (shape,))
        for entry in plain(decoder)
        for name, shape in zip(entry.ours, entry.shapes, strict=True)
    )


def _place(entries: list[Tensors], family: Family, have: Mapping[str, Shape]) -> Callable[[str], str]:
    """How this file places the text model's names."""
    places = (*PLACES, lambda name: name.removeprefix(family.bare))
    return max(places, key=lambda place: sum(place(name) in have for entry in entries for name in entry.theirs))


def headless(decoder: Decoder, container: Container) -> bool:
    """Whether a file has no head, though the class of the model has one of its own."""
    if not decoder.writes or decoder.embedding.tied:
        return False
    entries, have = plain(decoder), container.shapes()
    place = _place(list(entries), family_of(decoder), have)
    head = [place(name) for entry in entries if entry.ours == ("head.weight",) for name in entry.theirs]
    return mistral.TABLE not in have and bool(have) and not have.keys() & set(head)


def other_head(decoder: Decoder, container: Container) -> bool:
    """Whether a file has another head than the embedding, though the two are said to be one matrix."""
    have = container.shapes()
    if not decoder.embedding.tied:
        return False
    table, head = map(_place(list(plain(decoder)), family_of(decoder), have), TIED)
    if head not in have or table not in have:
        return False
    one, other = container.stored(table), container.stored(head)
    return have[head] != have[table] or not np.array_equal(one.floats(), other.floats())


def _listed(names: list[str], what: str) -> str:
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} {'tensor is' if len(names) == 1 else 'tensors are'} {what} ({shown})"
