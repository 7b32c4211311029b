"""Tensors as a file holds them, in numpy arrays: for those who can use the bytes without having them converted.

numpy knows neither bfloat16 nor blocks of a few bits, and need not: operations on names only move whole elements and
whole rows. So a bfloat16 is a uint16, and a block of 32 or 256 values one element of as many bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..spec import Join, Split, Stack, Step, Tensors, Transpose
from .dequantize import BLOCKS, DECODERS, dequantize
from .matching import loaded

if TYPE_CHECKING:
    from .tensors import Checkpoint

PLAIN: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F64": np.dtype("<f8"),
}


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor in the form that its file has.

    Args:
        kind: as GGUF calls it: F32, F16, BF16, Q4_0 …
        array: the elements; for kinds in blocks the last axis counts blocks.
        turned: whether the array has the tensor's last two axes the other way round.
    """

    kind: str
    array: Any
    turned: bool = False

    def floats(self) -> Any:
        """The values in float32, in the tensor's shape."""
        array = self._converted()
        return array.swapaxes(-1, -2) if self.turned else array

    def _converted(self) -> Any:
        if self.kind == "F32":
            return self.array
        if self.kind in ("F16", "F64"):
            return self.array.astype(np.float32)
        if self.kind == "BF16":
            return (np.asarray(self.array, np.uint32) << 16).view(np.float32)
        *rows, last = self.array.shape
        packed = np.ascontiguousarray(self.array).reshape(-1).view(np.uint8)
        return dequantize(packed, self.kind).reshape(*rows, last * BLOCKS[self.kind][0])


def element(kind: str) -> np.dtype[Any]:
    """What one element of an array of that kind is. Raises InputError for kinds that cannot be read."""
    if kind in PLAIN:
        return PLAIN[kind]
    if kind not in DECODERS:
        raise InputError(f"{kind} tensors cannot be read; supported kinds: {', '.join([*PLAIN, *DECODERS])}")
    return np.dtype((np.void, BLOCKS[kind][1]))


def stored(entry: Tensors, checkpoint: Checkpoint) -> Iterator[tuple[str, int | None, Stored]]:
    """The model's tensors (canonical name, which copy, tensor), made from the file's.

    What the file has in one tensor for each copy comes so, with its number; else the number is None. Blocks stay as
    they are where whole rows are moved.
    """
    found = [checkpoint.stored(name) for name in entry.theirs]
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
    return tensor.kind in PLAIN or _moves_rows(steps, tensor.array.ndim)


def _moves_rows(steps: tuple[Step, ...], dimensions: int) -> bool:
    last = dimensions - 1
    return all(isinstance(step, Stack) or (isinstance(step, Split | Join) and step.axis != last) for step in steps)


def kind_of(entry: Tensors, checkpoint: Checkpoint) -> str:
    """The kind that `stored` gives for an entry, without reading it; what FP8 is unpacked from counts as FP8."""
    kinds = {checkpoint.kind(name) for name in entry.theirs}
    (kind,) = kinds if len(kinds) == 1 else ("F32",)
    steps = entry.steps[1:] if kind == "MXFP4" and entry.steps[:1] == (Transpose(),) else entry.steps
    dimensions = len(entry.shapes[0])
    return kind if kind in PLAIN or kind.startswith("F8") or _moves_rows(steps, dimensions) else "F32"
