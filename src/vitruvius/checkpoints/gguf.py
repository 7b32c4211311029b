"""GGUF files, memory-mapped: metadata, and tensors in the packed form that they have on disk or as float32.

The format is ggml-org/ggml, docs/gguf.md. A file comes from anybody, so nothing in it is believed: every count is
compared with the bytes that are left before anything is allocated, and every tensor with the size of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from ..errors import InputError
from ..spec import BLOCKS
from .dequantize import DECODERS, dequantize
from .files import GGUF_MAGIC as MAGIC
from .files import refuse_pointer
from .stored import Stored, element

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSIONS = (2, 3)  # they differ only in that 3 may be big-endian; version 1 counted in 32 bits and is gone

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


class GGUF:
    """An open GGUF file, or a model in several.

    `metadata` holds its key-value pairs (arrays as lists), those of the first of several files; `tensors` what is said
    of each tensor; `parts` is the number of files.

    Raises:
        InputError: the file is missing, is not GGUF, is damaged, or is of another version or byte order.
    """

    packed: frozenset[str] = frozenset()  # blocks are no scales beside their values

    def __init__(self, path: Path, data: NDArray[np.uint8], size: int | None = None) -> None:
        self.path = path
        header = _Header(path, data, len(data) if size is None else size)
        version = header.version()
        if version not in VERSIONS:
            raise InputError(f"{path}: GGUF version {version} is not supported (only 2 and 3); convert it again")
        tensors, pairs = header.u64("the number of tensors"), header.u64("the number of metadata entries")
        self.metadata = header.metadata(pairs)
        self.tensors = header.tensors(tensors, self.metadata.get("general.alignment", DEFAULT_ALIGNMENT))
        self.parts = 1
        self._bytes = dict.fromkeys(self.tensors, data)  # tensor name -> the file that it lies in

    @classmethod
    def open(cls, path: str | PathLike[str]) -> GGUF:
        """Maps the file at `path`, or all parts of a model of which it is one, and reads the headers; no tensor is
        read. A file that is still open is not read anew."""
        opened = cls._one(Path(fspath(path)))
        count = opened.metadata.get("split.count", 1)
        if type(count) is not int or count <= 1:
            return opened
        files = _parts(opened.path, count)
        if missing := [file for file in files if not file.is_file()]:
            raise InputError(f"{path}: one of {count} parts of a model, of which {missing[0].name} is missing")
        return cls._joined([cls._one(file) for file in files])

    @classmethod
    def _joined(cls, parts: list[GGUF]) -> GGUF:
        """The model whose parts these are, in order."""
        first = parts[0]
        whole = object.__new__(cls)
        whole.path, whole.metadata, whole.parts = first.path, first.metadata, len(parts)
        whole.tensors, whole._bytes = {}, {}
        for i, part in enumerate(parts):
            if part.metadata.get("split.no") != i or part.metadata.get("split.count") != len(parts):
                raise InputError(f"{part.path}: does not say that it is part {i + 1} of {len(parts)}; fetch it again")
            if doubled := sorted(part.tensors.keys() & whole.tensors.keys()):
                raise InputError(f"{part.path}: tensor {doubled[0]!r} is in another part too; fetch the parts again")
            whole.tensors |= part.tensors
            whole._bytes |= part._bytes
        total = first.metadata.get("split.tensors.count", len(whole.tensors))
        if total != len(whole.tensors):
            raise InputError(
                f"{first.path}: the parts hold {len(whole.tensors)} tensors, not {total}; fetch them again"
            )
        return whole

    @classmethod
    def _one(cls, path: Path) -> GGUF:
        try:
            if not path.is_file():
                raise InputError(f"{path}: no such file")
            status = path.stat()
            size, key = status.st_size, (cls, path, status.st_ino, status.st_size, status.st_mtime_ns)
            if (opened := _OPEN.get(key)) is not None:
                return opened
            if size < len(MAGIC) + U32.size:
                raise InputError(f"{path}: {size} bytes are not a GGUF file; fetch it again")
            data = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
            refuse_pointer(path, bytes(data[:64]))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        opened = _OPEN[key] = cls(path, data)
        return opened

    @classmethod
    def header(cls, name: str, first: bytes, size: int) -> GGUF:
        """What the first bytes of a file of `size` bytes say. Raises IncompleteError where they end inside the header,
        or when a tensor that lies beyond them is read."""
        return cls(Path(name), np.frombuffer(first[:size], np.uint8), size)

    def raw(self, name: str) -> NDArray[np.uint8]:
        """The bytes of a tensor, (nbytes,) uint8, mapped and read-only."""
        info = self._info(name)
        data = self._bytes[name]
        if info.offset + info.nbytes > len(data):
            raise IncompleteError(f"{self.path}: tensor {name!r} lies beyond what was read", info.offset + info.nbytes)
        return data[info.offset : info.offset + info.nbytes]

    def rows(self, name: str) -> NDArray[np.uint8]:
        """The bytes of a tensor in rows, (*shape[:-1], bytes of a row) uint8. Blocks never cross rows, so rows can be
        picked and reordered without unpacking them."""
        info = self._info(name)
        self._known(info)
        rows = info.shape[:-1] or (1,)
        return self.raw(name).reshape(*rows, -1)

    def array(self, name: str) -> NDArray[np.float32]:
        """A tensor as float32 in its own shape; F32 is mapped, all else is unpacked into new memory."""
        info = self._info(name)
        self._known(info)
        return dequantize(self.raw(name), info.kind).reshape(info.shape)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor."""
        return {name: info.shape for name, info in self.tensors.items()}

    def stored(self, name: str) -> Stored:
        """A tensor in the blocks that it has on disk, mapped and read-only."""
        info = self._info(name)
        self._known(info)
        return Stored(info.kind, self.rows(name).view(element(info.kind)).reshape(*info.shape[:-1], -1))

    def nbytes(self, name: str) -> int:
        """Bytes of a tensor."""
        return self._info(name).nbytes

    def kind(self, name: str) -> str:
        """The kind of a tensor, as GGUF calls it."""
        return self._info(name).kind

    def _info(self, name: str) -> TensorInfo:
        if name not in self.tensors:
            raise InputError(f"{self.path}: holds no tensor {name!r}")
        return self.tensors[name]

    def _known(self, info: TensorInfo) -> None:
        if info.kind != "F32" and info.kind not in DECODERS:
            raise InputError(
                f"{self.path}: tensor {info.name!r} is {info.kind}, which is not supported "
                f"(only F32, {', '.join(DECODERS)}); convert the model to one of those"
            )


PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)  # as llama-gguf-split names them
MOST_PARTS = 10_000


def _parts(path: Path, count: int) -> list[Path]:
    """The files of a model in so many parts, of which `path` is one."""
    named = PART.fullmatch(path.name)
    if named is None or int(named[3]) != count or count > MOST_PARTS:
        names = f"model-00001-of-{count:05d}.gguf"
        raise InputError(f"{path}: one of {count} parts of a model, which are found by names such as {names}")
    return [path.with_name(f"{named[1]}-{i + 1:05d}-of-{count:05d}{path.suffix}") for i in range(count)]


_OPEN: WeakValueDictionary[tuple[object, ...], GGUF] = WeakValueDictionary()


class _Header:
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
        return int(U32.unpack(self.take(4, what))[0])

    def u64(self, what: str) -> int:
        return int(U64.unpack(self.take(8, what))[0])

    def version(self) -> int:
        magic = bytes(self.take(4, "the magic"))
        if magic != MAGIC:
            raise InputError(f"{self.path}: not a GGUF file: it begins with {magic!r} instead of {MAGIC!r}")
        version = self.u32("the version")
        if version and not version & 0xFFFF:
            raise InputError(f"{self.path}: big-endian GGUF files are not supported; convert it to little-endian")
        return version

    def text(self, what: str, longest: int = MOST_HEADER_BYTES) -> str:
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
        if code == STRING:
            return self.text(f"the value of {key!r}")
        if code == ARRAY:
            return self.array(key)
        if code not in SCALARS:
            raise self.fail(f"metadata entry {key!r} has the unknown type {code}")
        return self.numbers(code, 1, key)[0]

    def array(self, key: str) -> list[object]:
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
        data = self.take(count * WIDTHS[code], f"metadata entry {key!r}")
        if code == BOOL and np.frombuffer(data, np.uint8).max(initial=0) > 1:
            raise self.fail(f"metadata entry {key!r} holds a truth value other than 0 and 1")
        values: list[object] = np.frombuffer(data, dtype=SCALARS[code]).tolist()
        return values

    def texts(self, count: int, key: str) -> list[object]:
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
        elements, size = BLOCKS[kind]
        row = shape[-1] if shape else 1
        if row % elements:
            raise self.fail(f"the rows of tensor {name!r} have {row:,} elements, {kind} needs a multiple of {elements}")
        count = 1
        for length in shape:
            count *= length
        return count // elements * size
