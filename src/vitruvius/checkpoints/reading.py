"""The model's tensors, made from those of a file and in its own formats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..spec import Add, Join, LogDecay, Reorder, Split, Stack, Step, Tensors, Transpose
from .steps import loaded
from .stored import PLAIN, Container, Stored


def read(entry: Tensors, container: Container) -> Iterator[tuple[str, int | None, Stored]]:
    """The model's tensors (canonical name, which copy, tensor), made from the file's.

    What the file has in one tensor for each copy comes so, with its number; else the number is None. Blocks stay as
    they are where whole rows are moved.
    """
    found = [container.stored(name) for name in entry.theirs]
    if entry.steps == (Stack(),):
        yield from ((entry.ours[0], copy, tensor) for copy, tensor in enumerate(found))
        return
    if all(tensor.turned for tensor in found) and entry.steps[:1] == (Transpose(),):  # which turns them back
        found = [replace(tensor, turned=False) for tensor in found]
        entry = replace(entry, steps=entry.steps[1:])
    kinds = {tensor.kind for tensor in found}
    if len(kinds) > 1 or found[0].turned or not _may_move(entry.steps, found[0]):
        found = [Stored("F32", tensor.floats()) for tensor in found]
    for name, array in loaded(entry, [tensor.array for tensor in found]):
        yield name, None, Stored(found[0].kind, array)


def _may_move(steps: tuple[Step, ...], tensor: Stored) -> bool:
    """Whether the steps keep the elements whole: in blocks, only whole rows may be moved."""
    if any(isinstance(step, Add | LogDecay) for step in steps):
        return tensor.kind == "F32"
    return tensor.kind in PLAIN or _moves_rows(steps, tensor.array.ndim)


def _moves_rows(steps: tuple[Step, ...], dimensions: int) -> bool:
    last = dimensions - 1
    moving = (step for step in steps if not isinstance(step, Stack))
    return all(isinstance(step, Split | Join | Reorder) and step.axis != last for step in moving)


def kind_of(entry: Tensors, container: Container) -> str:
    """The kind that `read` gives for an entry, without reading it; what FP8 is unpacked from counts as FP8."""
    kinds = {container.kind(name) for name in entry.theirs}
    (kind,) = kinds if len(kinds) == 1 else ("F32",)
    if any(isinstance(step, Add | LogDecay) for step in entry.steps):
        return "F32"
    steps = entry.steps[1:] if kind == "MXFP4" and entry.steps[:1] == (Transpose(),) else entry.steps
    dimensions = len(entry.shapes[0])
    return kind if kind in PLAIN or kind.startswith("F8") or _moves_rows(steps, dimensions) else "F32"
