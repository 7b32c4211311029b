"""Tensors as a file holds them, in numpy arrays: for those who can use the bytes without having them converted.

numpy knows neither bfloat16 nor blocks of a few bits, and need not: operations on names only move whole elements and
whole rows. So a bfloat16 is a uint16, and a block of 32 or 256 values one element of as many bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import InputError
from ..spec import BLOCKS
from .dequantize import DECODERS, dequantize

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
        element(self.kind)
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


class Container(Protocol):
    """Tensors by the names that a file gives them, read when asked for."""

    path: Path
    packed: frozenset[str]  # what is stored in a few bits beside its scales, and unpacked when read

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name -> shape of every tensor, from the headers alone."""

    def stored(self, name: str) -> Stored:
        """A tensor in the form that the file has, mapped and read-only where nothing must be moved."""

    def nbytes(self, name: str) -> int:
        """Bytes that the file has for a tensor, scales and all."""

    def kind(self, name: str) -> str:
        """The kind of what `stored` gives, from the headers alone; F8_E4M3 where that is unpacked."""
