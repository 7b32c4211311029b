"""The operations on names, carried out on arrays: from the file's tensors to the model's, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ..spec import Add, Join, LogDecay, Reorder, Reshape, Split, Stack, Step, Tensors, Transpose

Shape = tuple[int, ...]


def file_shapes(entry: Tensors) -> dict[str, Shape]:
    """Name -> shape of the file's tensors."""
    return dict(zip(entry.theirs, _stages(entry)[0], strict=True))


def _shapes_saved(step: Step, shapes: list[Shape]) -> list[Shape]:
    match step:
        case Stack():
            return [shapes[0][1:]] * shapes[0][0]
        case Transpose(only=only):
            turned = [(*shape[:-2], shape[-1], shape[-2]) for shape in shapes]
            return [new if only in (None, i) else old for i, (new, old) in enumerate(zip(turned, shapes, strict=True))]
        case Reorder() | Add() | LogDecay():
            return shapes
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
            case Transpose(only=only):
                arrays = _each(only, arrays, lambda array: array.swapaxes(-1, -2))
            case Reshape():
                arrays = [array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)]
            case Reorder(rows=rows, columns=columns, only=only):
                arrays = _each(only, arrays, partial(_reordered, step=step, rows=rows, columns=columns))
            case Add(value=value):
                arrays = [array + value for array in arrays]
            case LogDecay():
                arrays = [_library(array).log(-array) for array in arrays]
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
            case Transpose(only=only):
                arrays = _each(only, arrays, lambda array: array.swapaxes(-1, -2))
            case Reshape():
                arrays = [array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)]
            case Reorder(rows=rows, columns=columns, only=only):
                arrays = _each(only, arrays, partial(_reordered, step=step, rows=columns, columns=rows))
            case Add(value=value):
                arrays = [array - value for array in arrays]
            case LogDecay():
                arrays = [-_library(array).exp(array) for array in arrays]
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


def _each(only: int | None, arrays: list[Any], change: Callable[[Any], Any]) -> list[Any]:
    return [change(array) if only in (None, i) else array for i, array in enumerate(arrays)]


def _reordered(array: Any, step: Reorder, rows: int, columns: int) -> Any:
    """`array` with what stands in rows along the step's axis put in columns."""
    shape, axis = tuple(array.shape), step.axis
    wide = array.reshape(*shape[:axis], step.groups, rows, columns, step.unit, *shape[axis + 1 :])
    return wide.swapaxes(axis + 1, axis + 2).reshape(shape)


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
