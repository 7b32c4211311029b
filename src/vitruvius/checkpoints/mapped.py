"""One safetensors file, mapped into memory: its tensors' own bytes, also of dtypes that numpy does not know.

The format is huggingface/safetensors, README.md: the header's length (8 bytes), a JSON header, the tensors.
"""

from __future__ import annotations

import json
import mmap
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .stored import PLAIN, Stored

LONGEST_HEADER = 100_000_000  # bytes, as in the library
RAW: dict[str, np.dtype[Any]] = {**PLAIN, "U8": np.dtype("u1"), "F8_E4M3": np.dtype("u1"), "F8_E8M0": np.dtype("u1")}


class Mapped:
    """Every tensor lies within the file, and is as long as its shape says; what is not known is told when it is read.

    Raises InputError for a file that is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from None
        self._start, self._header = self._read_header()

    def _read_header(self) -> tuple[int, dict[str, Any]]:
        length = int.from_bytes(self._map[:8], "little")
        if not 2 <= length <= min(LONGEST_HEADER, len(self._map) - 8):
            raise InputError(f"{self.path}: a header of {length:,} bytes is not that of a safetensors file")
        try:
            header = json.loads(self._map[8 : 8 + length])
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.path}: its header is not JSON ({error})") from None
        if not isinstance(header, dict):
            raise InputError(f"{self.path}: its header is not an object")
        return 8 + length, header

    def kind(self, name: str) -> str:
        """The dtype of a tensor, as the header has it."""
        described = self._header.get(name)
        return str(described.get("dtype")) if isinstance(described, dict) else "nothing"

    def stored(self, name: str) -> Stored:
        """A tensor, read-only; its kind is the file's dtype."""
        match self._header.get(name):
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]} if dtype in RAW:
                pass
            case {"dtype": str(dtype)} if dtype not in RAW:
                raise InputError(f"{self.path}: {name} holds {dtype}, which cannot be loaded yet")
            case _:
                raise InputError(f"{self.path}: {name} is not described as it should be")
        element: np.dtype[Any] = RAW[dtype]
        whole = all(type(size) is int and size >= 0 for size in shape)
        size = len(self._map) - self._start
        if not whole or not 0 <= begin <= end <= size or prod(shape) * element.itemsize != end - begin:
            raise InputError(f"{self.path}: {name} {shape} in {dtype} does not fit its bytes {begin:,} to {end:,}")
        array = np.frombuffer(self._map, element, prod(shape), self._start + begin)
        return Stored(dtype, array.reshape(shape))
