"""A GGUF file's header. A file comes from anybody, so nothing in it is believed: every count is compared with the bytes
that are left before anything is allocated, and every tensor with the size of the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError
from ...spec import BLOCKS
from ..files import GGUF_MAGIC as MAGIC

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Far above any real file (262,144 tokens with scores and types, 500,000 merges; a few thousand tensors), and low enough
# that a hostile one costs a second and some hundred megabytes at worst.
MOST_ELEMENTS = 1 << 23  # of all arrays of the metadata together
MOST_HEADER_BYTES = 1 << 28
MOST_TENSORS = 1 << 17
MOST_DIMENSIONS = 4  # GGML_MAX_DIMS
LONGEST_NAME = 1 << 10  # bytes; ggml itself stops at 64 for tensors
SMALLEST_ALIGNMENT, DEFAULT_ALIGNMENT = 8, 32

BOOL, STRING, ARRAY = 7, 8, 9
SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    BOOL: "|b1",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
WIDTHS = {code: np.dtype(name).itemsize for code, name in SCALARS.items()}

# enum ggml_type in ggml.h, in whose order BLOCKS is written; the numbers left out were withdrawn
KINDS = dict(zip((0, 1, 2, 3, *range(6, 31), 34, 35, 39, 40, 41), BLOCKS, strict=True))

U32, U64 = Struct("<I"), Struct("<Q")


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies in its file.

    `shape` has the outermost dimension first, as in torch; `offset` counts from the start of the file; `nbytes` of a
    kind that we do not know reach to the next tensor.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    offset: int
    nbytes: int


class IncompleteError(InputError):
    """More of the file is needed: at least its first `needs` bytes."""

    def __init__(self, message: str, needs: int) -> None:
        super().__init__(message)
        self.needs = needs


class Header:
    """Reads the header in order, comparing every length with the bytes that are left.

    `size` is that of the file, of which `data` may be the beginning only.
    """

    def __init__(self, path: Path, data: NDArray[np.uint8], size: int) -> None:
        self.path = path
        self.size = size
        self.end = min(size, MOST_HEADER_BYTES)
        self.buffer = data[:MOST_HEADER_BYTES].data
        self.at = 0
        self.elements = MOST_ELEMENTS

    def fail(self, problem: str) -> InputError:
        """The error to raise about damage."""
        return InputError(f"{self.path}: {problem}; the file is damaged, fetch it again")

    def take(self, count: int, what: str) -> memoryview:
        """The next `count` bytes."""
        left = self.end - self.at
        if count > left:
            end = f"byte {self.end:,}" if self.size > self.end else "its end"
            raise self.fail(f"{what} needs {count:,} bytes at byte {self.at:,}, {left:,} are left before {end}")
        self.within(self.at + count)
        self.at += count
        return self.buffer[self.at - count : self.at]

    def within(self, end: int) -> None:
        """Refuses to go on beyond the part of the file that is there."""
        if end > len(self.buffer):
            raise IncompleteError(f"{self.path}: the header goes on after byte {len(self.buffer):,}", end)

    def u32(self, what: str) -> int:
        """The next 4 bytes."""
        return int(U32.unpack(self.take(4, what))[0])

    def u64(self, what: str) -> int:
        """The next 8 bytes."""
        return int(U64.unpack(self.take(8, what))[0])

    def version(self) -> int:
        """The version of the format, after the magic."""
        magic = bytes(self.take(4, "the magic"))
        if magic != MAGIC:
            raise InputError(f"{self.path}: not a GGUF file: it begins with {magic!r} instead of {MAGIC!r}")
        version = self.u32("the version")
        if version and not version & 0xFFFF:
            raise InputError(f"{self.path}: big-endian GGUF files are not supported; convert it to little-endian")
        return version

    def text(self, what: str, longest: int = MOST_HEADER_BYTES) -> str:
        """A text of at most `longest` bytes."""
        length = self.u64(f"the length of {what}")
        if length > longest:
            raise self.fail(f"{what} has {length:,} bytes, more than {longest:,}")
        try:
            return str(self.take(length, what), "utf-8")
        except UnicodeDecodeError:
            raise self.fail(f"{what} is not UTF-8") from None

    def name(self, what: str) -> str:
        """A text that can be shown in a message."""
        name = self.text(what, LONGEST_NAME)
        if not name.isprintable():
            raise self.fail(f"{what} is {name[:60]!r}")
        return name

    def metadata(self, count: int) -> dict[str, object]:
        """So many key-value pairs."""
        self.check_count(count, 8 + 4 + 1, "metadata entries")
        result: dict[str, object] = {}
        for i in range(count):
            key = self.name(f"the key of metadata entry {i:,}")
            if key in result:
                raise self.fail(f"metadata entry {key!r} appears twice")
            result[key] = self.value(self.u32(f"the type of {key!r}"), key)
        return result

    def check_count(self, count: int, least: int, what: str) -> None:
        """Refuses a count of items of at least `least` bytes each that cannot fit in what is left."""
        left = self.end - self.at
        if count > left // least:
            raise self.fail(f"{count:,} {what} cannot fit in the {left:,} bytes that are left")

    def value(self, code: int, key: str) -> object:
        """A value of that type."""
        if code == STRING:
            return self.text(f"the value of {key!r}")
        if code == ARRAY:
            return self.array(key)
        if code not in SCALARS:
            raise self.fail(f"metadata entry {key!r} has the unknown type {code}")
        return self.numbers(code, 1, key)[0]

    def array(self, key: str) -> list[object]:
        """A list whose items have one type."""
        code, count = self.u32(f"the type of the items of {key!r}"), self.u64(f"the length of {key!r}")
        if code == ARRAY:
            raise InputError(f"{self.path}: metadata entry {key!r} is an array of arrays, which is not supported")
        if code != STRING and code not in SCALARS:
            raise self.fail(f"the items of metadata entry {key!r} have the unknown type {code}")
        self.check_count(count, WIDTHS.get(code, 8), f"items of metadata entry {key!r}")
        self.elements -= count
        if self.elements < 0:
            raise self.fail(f"metadata entry {key!r} brings the arrays to more than {MOST_ELEMENTS:,} items")
        return self.texts(count, key) if code == STRING else self.numbers(code, count, key)

    def numbers(self, code: int, count: int, key: str) -> list[object]:
        """So many numbers of that type."""
        data = self.take(count * WIDTHS[code], f"metadata entry {key!r}")
        if code == BOOL and np.frombuffer(data, np.uint8).max(initial=0) > 1:
            raise self.fail(f"metadata entry {key!r} holds a truth value other than 0 and 1")
        values: list[object] = np.frombuffer(data, dtype=SCALARS[code]).tolist()
        return values

    def texts(self, count: int, key: str) -> list[object]:
        """So many texts."""
        # `text` for each item, written out: a vocabulary has some 100,000 of them
        buffer, at, end, length_at = self.buffer, self.at, len(self.buffer), U64.unpack_from
        result: list[object] = []
        try:
            for _ in range(count):
                start = at + 8
                (length,) = length_at(buffer, at) if start <= end else (0,)
                at = start + length
                if at > end:
                    if at <= self.end:
                        self.within(at)
                    raise self.fail(f"item {len(result):,} of metadata entry {key!r} reaches beyond the file")
                result.append(str(buffer[start:at], "utf-8"))
        except UnicodeDecodeError:
            raise self.fail(f"item {len(result):,} of metadata entry {key!r} is not UTF-8") from None
        self.at = at
        return result

    def tensors(self, count: int, alignment: object) -> dict[str, TensorInfo]:
        """What the file says of its tensors, in the order of their bytes."""
        if not isinstance(alignment, int) or alignment < SMALLEST_ALIGNMENT or alignment & (alignment - 1):
            raise self.fail(f"general.alignment is {alignment!r}, not a power of two from {SMALLEST_ALIGNMENT} on")
        self.check_count(count, 8 + 4 + 4 + 8, "tensors")
        if count > MOST_TENSORS:
            raise self.fail(f"{count:,} tensors are more than {MOST_TENSORS:,}")
        found: dict[str, tuple[tuple[int, ...], int, int]] = {}
        for i in range(count):
            name = self.name(f"the name of tensor {i:,}")
            if name in found:
                raise self.fail(f"tensor {name!r} appears twice")
            found[name] = (self.shape(name), self.u32(f"the type of {name!r}"), self.u64(f"the offset of {name!r}"))
        start = -(-self.at // alignment) * alignment
        return self.placed(found, start, alignment)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, outermost dimension first."""
        dimensions = self.u32(f"the number of dimensions of {name!r}")
        if dimensions > MOST_DIMENSIONS:
            raise self.fail(f"tensor {name!r} has {dimensions:,} dimensions, more than {MOST_DIMENSIONS}")
        sizes = [self.u64(f"a dimension of {name!r}") for _ in range(dimensions)]
        if 0 in sizes:
            raise self.fail(f"tensor {name!r} has a dimension of 0")
        return tuple(reversed(sizes))

    def placed(
        self, found: dict[str, tuple[tuple[int, ...], int, int]], start: int, alignment: int
    ) -> dict[str, TensorInfo]:
        """Checks that tensors are aligned, inside the file and apart."""
        result: dict[str, TensorInfo] = {}
        order = sorted(found, key=lambda name: found[name][2])
        end, before = start, ""
        for i, name in enumerate(order):
            shape, code, offset = found[name]
            offset += start
            limit = start + found[order[i + 1]][2] if i + 1 < len(order) else self.size
            kind = KINDS.get(code, f"type {code}")
            nbytes = self.nbytes(name, shape, kind) if code in KINDS else max(0, min(limit, self.size) - offset)
            if offset % alignment:
                raise self.fail(f"tensor {name!r} starts at byte {offset:,}, not a multiple of {alignment}")
            if offset + nbytes > self.size:
                raise self.fail(f"tensor {name!r} ends at byte {offset + nbytes:,}, the file at {self.size:,}")
            if offset < end:
                raise self.fail(f"tensors {before!r} and {name!r} overlap at byte {offset:,}")
            result[name] = TensorInfo(name, shape, kind, offset, nbytes)
            end, before = offset + nbytes, name
        return result

    def nbytes(self, name: str, shape: tuple[int, ...], kind: str) -> int:
        """The bytes of a tensor of a known kind."""
        elements, size = BLOCKS[kind]
        row = shape[-1] if shape else 1
        if row % elements:
            raise self.fail(f"the rows of tensor {name!r} have {row:,} elements, {kind} needs a multiple of {elements}")
        count = 1
        for length in shape:
            count *= length
        return count // elements * size
