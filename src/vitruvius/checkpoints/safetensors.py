"""safetensors, one file or many, mapped into memory: tensors' own bytes, also of dtypes that numpy does not know.

The format is huggingface/safetensors, README.md: the header's length (8 bytes), a JSON header, the tensors.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any
from warnings import warn

import numpy as np

from ..errors import InputError, InputWarning
from . import mistral
from .files import PICKLES, pickle_refused, read_json, refuse_pointer
from .stored import PLAIN, Stored

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"

LONGEST_HEADER = 100_000_000  # bytes, as in the library
BYTES = ("F8_E4M3", "F8_E5M2", "F8_E8M0")  # kinds of which numpy knows only the bytes
NUMBERS = {f"{kind}{8 * size}": np.dtype(f"<{kind.lower()}{size}") for kind in "IU" for size in (1, 2, 4, 8)}
RAW: dict[str, np.dtype[Any]] = {**PLAIN, **NUMBERS, **dict.fromkeys(BYTES, np.dtype("u1")), "BOOL": np.dtype("?")}


class Mapped:
    """One file. Every tensor lies within it and is as long as its shape says; what is not known is told when it is
    read.

    Raises InputError for a file that is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from None
        refuse_pointer(path, self._map[:64])
        self._start, self._header = self._read_header()
        self.shapes = {name: self._described(name)[1] for name in self._header if name != "__metadata__"}

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
        return self._described(name)[0]

    def nbytes(self, name: str) -> int:
        """Bytes of a tensor."""
        begin, end = self._header[name]["data_offsets"]
        return int(end - begin)

    def stored(self, name: str) -> Stored:
        """A tensor, read-only; its kind is the file's dtype."""
        dtype, shape, begin = self._described(name)
        if dtype not in RAW:
            raise InputError(f"{self.path}: {name} holds {dtype}, which cannot be loaded yet")
        array = np.frombuffer(self._map, RAW[dtype], prod(shape), self._start + begin)
        return Stored(dtype, array.reshape(shape))

    def _described(self, name: str) -> tuple[str, tuple[int, ...], int]:
        """(dtype, shape, where it begins) of a tensor that lies within the file."""
        match self._header.get(name):
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
                pass
            case _:
                raise InputError(f"{self.path}: {name} is not described as it should be")
        whole = all(type(size) is int and size >= 0 for size in shape)
        fits = 0 <= begin <= end <= len(self._map) - self._start
        if not whole or not fits or (dtype in RAW and prod(shape) * RAW[dtype].itemsize != end - begin):
            raise InputError(f"{self.path}: {name} {shape} in {dtype} does not fit its bytes {begin:,} to {end:,}")
        return dtype, tuple(shape), begin


class Safetensors:
    """The safetensors files of a folder.

    Where the index names a tensor's file, the tensor is that file's, whatever the others hold. An index that is stale
    (it names a tensor where it is not) does not hide what the files have.
    """

    packed: frozenset[str] = frozenset()

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self._files: dict[str, Mapped] = {}  # tensor name -> file
        index = _index(folder)
        files = {name: Mapped(folder / name) for name in (sorted(set(index.values())) or _alone(folder))}
        for name, file in files.items():
            if doubled := sorted(file.shapes.keys() & self._files.keys() - index.keys()):
                raise InputError(f"{folder / name}: {doubled[0]} is in another file too, and the index names neither")
            self._files |= dict.fromkeys(file.shapes, file)
        self._files |= {tensor: files[name] for tensor, name in index.items() if tensor in files[name].shapes}

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name -> shape of every tensor."""
        return {name: file.shapes[name] for name, file in self._files.items()}

    def stored(self, name: str) -> Stored:
        """A tensor in the form that the file has, mapped and read-only."""
        return self._files[name].stored(name)

    def nbytes(self, name: str) -> int:
        """Bytes of a tensor."""
        return self._files[name].nbytes(name)

    def kind(self, name: str) -> str:
        """The file's dtype."""
        return self._files[name].kind(name)


def _index(folder: Path) -> dict[str, str]:
    """Tensor name -> file, for checkpoints in several files."""
    path = folder / INDEX
    if not path.exists():
        return {}
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{path}: no weight_map in it")
    for name, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise InputError(f"{path}: {name} points to {file!r}, which is no safetensors file of this folder")
        if not (folder / file).exists():
            if (folder / WHOLE).exists():
                warn(f"{path} is stale: {file} is missing; {WHOLE} is read instead", InputWarning, stacklevel=2)
                return {}
            raise InputError(f"{path}: {name} should be in {file}, and that file is missing")
    return weight_map


def _alone(folder: Path) -> list[str]:
    """The safetensors files of a folder without an index: one, or those of Mistral's own format."""
    if (folder / WHOLE).exists():
        return [WHOLE]
    if own := mistral.files(folder):
        return [file.name for file in own]
    if pickles := sorted(path for path in folder.iterdir() if path.suffix in PICKLES):
        raise InputError(pickle_refused(pickles[0]))
    raise InputError(f"{folder}: no model.safetensors in it, and no {INDEX} that says what is where")
