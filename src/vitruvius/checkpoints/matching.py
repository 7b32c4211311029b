"""Matching a checkpoint's tensors with a model's: a bijection, or an error that shows both sides."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from ..architectures import family_of
from ..errors import InputError
from ..spec import Decoder, Family, Join, Reshape, Split, Stack, Step, Tensors, Transpose, spelled
from .tensors import Checkpoint

Shape = tuple[int, ...]

# How files put a text model inside a multimodal one: our name -> theirs.
PLACES: tuple[Callable[[str], str], ...] = (
    lambda name: name,
    lambda name: f"language_model.{name}",
    lambda name: name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name,
)


@dataclass(frozen=True)
class Plan:
    """Which tensors of the file become which of the model, and which are knowingly left out."""

    entries: tuple[Tensors, ...]
    unused: tuple[str, ...]


def match(decoder: Decoder, checkpoint: Checkpoint, ignore: Collection[str] = (), mtp: bool = False) -> Plan:
    """The plan by which `checkpoint` fills the model of `decoder`.

    Args:
        ignore: names or patterns of tensors that may be left out.
        mtp: whether the layers for multi-token prediction are wanted too.

    Raises InputError, in one line, where a tensor is missing, unknown, of another shape, or in the file twice.
    """
    family, have = family_of(decoder), checkpoint.shapes()
    edited = decoder.config is not None and "tree" in decoder.config
    every = list(canonical(decoder)) if edited else spelled(decoder, family.irregular(decoder))
    place = _place(every, family, have)
    every = [_as_cut(replace(entry, theirs=tuple(map(place, entry.theirs))), have) for entry in every]
    entries = tuple(entry for entry in every if mtp or not entry.ours[0].startswith("mtp."))
    wanted = {name: shape for entry in entries for name, shape in stored(entry).items()}
    extra = {name for entry in every for name in entry.theirs if name not in wanted} & have.keys()
    extra |= {name for name in have.keys() - wanted.keys() - extra if _unused(name, decoder, family, place, ignore)}
    _check_tied(decoder, checkpoint, place)
    missing, unknown = sorted(wanted.keys() - have.keys()), sorted(have.keys() - wanted.keys() - extra)
    if missing or unknown:
        sides = [_listed(missing, "missing")] * bool(missing) + [_listed(unknown, "unknown")] * bool(unknown)
        raise InputError(f"{checkpoint.path}: does not match {decoder.name}: {'; '.join(sides)}")
    for name, shape in wanted.items():
        if have[name] != shape:
            raise InputError(f"{checkpoint.path}: {name} has the shape {have[name]}, but {decoder.name} needs {shape}")
    return Plan(entries, tuple(sorted(extra)))


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


def _unused(name: str, decoder: Decoder, family: Family, place: Callable[[str], str], ignore: Collection[str]) -> bool:
    """Whether a tensor that the model does not need is known for that."""
    patterns = [*family.unused, *map(place, family.unused), *ignore]
    if decoder.embedding.tied:
        patterns.append(place("lm_head.weight"))
    if any(fnmatchcase(name, pattern) for pattern in patterns):
        return True
    beside = decoder.config is not None and "text_config" in decoder.config
    return beside and not name.startswith(("language_model.", "model.language_model.", "model.layers.", "lm_head."))


def _check_tied(decoder: Decoder, checkpoint: Checkpoint, place: Callable[[str], str]) -> None:
    """A file may repeat a tied matrix, as long as it is the same."""
    head, table = place("lm_head.weight"), place("model.embed_tokens.weight")
    have = checkpoint.shapes()
    if decoder.embedding.tied and head in have and table in have:
        a, b = checkpoint.read(head), checkpoint.read(table)
        if a.shape != b.shape or not bool((a == b).all()):
            raise InputError(f"{checkpoint.path}: {head} and {table} differ, but tie_word_embeddings says they are one")


def _listed(names: list[str], what: str) -> str:
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} {'tensor is' if len(names) == 1 else 'tensors are'} {what} ({shown})"


def stored(entry: Tensors) -> dict[str, Shape]:
    """Name -> shape of the file's tensors."""
    return dict(zip(entry.theirs, _stages(entry)[0], strict=True))


def _shapes_saved(step: Step, shapes: list[Shape]) -> list[Shape]:
    match step:
        case Stack():
            return [shapes[0][1:]] * shapes[0][0]
        case Transpose():
            return [(*shape[:-2], shape[-1], shape[-2]) for shape in shapes]
        case Reshape(theirs=theirs):
            return [theirs] * len(shapes)
        case Split(axis=axis):
            return [_resized(shapes[0], axis, sum(shape[axis] for shape in shapes))]
        case Join(sizes=sizes, axis=axis):
            return [_resized(shapes[0], axis, size) for size in sizes]


def _resized(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def loaded(entry: Tensors, arrays: list[Any]) -> Iterator[tuple[str, Any]]:
    """The model's tensors (canonical name, array), made from the file's. Arrays are numpy's or PyTorch's."""
    stages = _stages(entry)
    for step, shapes in zip(entry.steps, stages[1:], strict=True):
        match step:
            case Stack():
                arrays = [_library(arrays[0]).stack(arrays)]
            case Transpose():
                arrays = [array.swapaxes(-1, -2) for array in arrays]
            case Reshape():
                arrays = [array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)]
            case Split(axis=axis, groups=groups):
                arrays = _cut(arrays[0], axis, groups, [shape[axis] for shape in shapes])
            case Join(axis=axis):
                arrays = [_library(arrays[0]).concatenate(arrays, axis)]
    yield from zip(entry.ours, arrays, strict=True)


def saved(entry: Tensors, arrays: list[Any]) -> Iterator[tuple[str, Any]]:
    """The file's tensors (name, array), made from the model's: `loaded` backwards."""
    stages = _stages(entry)
    for step, shapes in zip(reversed(entry.steps), reversed(stages[:-1]), strict=True):
        match step:
            case Stack():
                arrays = list(arrays[0])
            case Transpose():
                arrays = [array.swapaxes(-1, -2) for array in arrays]
            case Reshape():
                arrays = [array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)]
            case Split(axis=axis, groups=groups):
                arrays = [_interleave(arrays, axis, groups)]
            case Join(axis=axis, sizes=sizes):
                arrays = _cut(arrays[0], axis, 1, list(sizes))
    yield from zip(entry.theirs, arrays, strict=True)


def _stages(entry: Tensors) -> list[list[Shape]]:
    """The shapes before the first step, after it, …, after the last."""
    stages = [list(entry.shapes)]
    for step in reversed(entry.steps):
        stages.insert(0, _shapes_saved(step, stages[0]))
    return stages


def _cut(array: Any, axis: int, groups: int, sizes: list[int]) -> list[Any]:
    """`array` cut along `axis` into parts of those sizes, each taking its share of every group."""
    shape = tuple(array.shape)
    grouped = array.reshape(*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
    parts, start = [], 0
    for size in sizes:
        part = grouped[(slice(None),) * (axis + 1) + (slice(start, start + size // groups),)]
        parts.append(part.reshape(_resized(shape, axis, size)))
        start += size // groups
    return parts


def _interleave(arrays: list[Any], axis: int, groups: int) -> Any:
    """`_cut` backwards."""
    shapes = [tuple(array.shape) for array in arrays]
    grouped = [
        array.reshape(*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
        for array, shape in zip(arrays, shapes, strict=True)
    ]
    whole = _library(arrays[0]).concatenate(grouped, axis + 1)
    return whole.reshape(_resized(shapes[0], axis, sum(shape[axis] for shape in shapes)))


def _library(array: Any) -> Any:
    """numpy or torch, which name these functions alike."""
    from importlib import import_module

    return import_module(type(array).__module__.partition(".")[0])
