"""GGUF files, memory-mapped: metadata, and tensors in the packed form that they have on disk or as float32.

The format is ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import re
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from ...errors import InputError
from ..dequantize import DECODERS, dequantize
from ..files import GGUF_MAGIC as MAGIC
from ..files import refuse_pointer
from ..stored import Stored, element
from .header import DEFAULT_ALIGNMENT, U32, Header, IncompleteError, TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSIONS = (2, 3)  # they differ only in that 3 may be big-endian; version 1 counted in 32 bits and is gone


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
        header = Header(path, data, len(data) if size is None else size)
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
