"""What a codec finds in a container: matrices that are stored in a few bits beside their scales."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ..stored import Container, Stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Packing:
    """One matrix.

    Args:
        uses: the file's tensors that it is made of.
        shape: as if it were not packed.
        kind: of what `unpack` gives, told from the headers; F8_E4M3, INT8 and INT4 come as float32.
        unpack: reads and unpacks it.
    """

    uses: tuple[str, ...]
    shape: Shape
    kind: str
    unpack: Callable[[], Stored]


@dataclass(frozen=True, eq=False)
class Files:
    """A container as codecs look at it.

    Args:
        container: the tensors.
        settings: what config.json says of the format (`quantization_config`, or MLX's `quantization`).
    """

    container: Container
    settings: Mapping[str, Any]
    shapes: Mapping[str, Shape]

    @property
    def path(self) -> Path:
        """Of the container."""
        return self.container.path

    @property
    def method(self) -> str:
        """`quant_method`, "" where there is none."""
        return str(self.settings.get("quant_method", ""))

    def ending(self, ending: str) -> Iterator[str]:
        """Beginnings of the names that end so."""
        return (name.removesuffix(ending) for name in self.shapes if name.endswith(ending))

    def kind(self, name: str) -> str:
        """The file's dtype of a tensor, "" where there is no such."""
        return self.container.kind(name) if name in self.shapes else ""

    def there(self, *names: str) -> tuple[str, ...]:
        """Those of the names that the file has."""
        return tuple(name for name in names if name in self.shapes)

    def raw(self, name: str) -> NDArray[Any]:
        """A tensor's elements as the file has them."""
        array: NDArray[Any] = self.container.stored(name).array
        return array

    def floats(self, name: str) -> NDArray[np.float32]:
        """A tensor of floating-point numbers."""
        values: NDArray[np.float32] = self.container.stored(name).floats()
        return values

    def wrong(self, name: str, problem: str) -> InputError:
        """The error to raise about a tensor."""
        return InputError(f"{self.path}: {name} {self.shapes.get(name)} {problem}")

    def size(self, key: str, default: int | None = None, among: Collection[int] = ()) -> int:
        """A whole number of the settings."""
        value = self.settings.get(key, default)
        if type(value) is not int or (among and value not in among):
            wanted = f"one of {', '.join(map(str, among))}" if among else "a whole number"
            raise InputError(f"{self.path}: {key} of the quantisation must be {wanted}, got {value!r}")
        return value


Codec = Callable[[Files], Mapping[str, Packing]]  # name of the unpacked matrix -> where it is


def floats(values: NDArray[np.floating[Any]]) -> Stored:
    """Unpacked values."""
    return Stored("F32", np.ascontiguousarray(values, np.float32))


def spread(values: NDArray[Any], axis: int, size: int) -> NDArray[Any]:
    """Each entry along `axis` repeated for the rows or columns of its group, `size` in all."""
    groups = values.shape[axis]
    repeated: NDArray[Any] = values.repeat(-(-size // groups), axis).take(range(size), axis)
    return repeated
