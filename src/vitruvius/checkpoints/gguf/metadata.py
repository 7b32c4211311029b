"""The metadata of a GGUF file's architecture, read so that nothing is overlooked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError

if TYPE_CHECKING:
    from .container import GGUF


class Metadata:
    """The metadata of one file's architecture, remembering what was read. Keys go without the architecture's name."""

    def __init__(self, gguf: GGUF) -> None:
        self.gguf = gguf
        self.architecture = str(gguf.metadata.get("general.architecture"))
        self._read = {f"{self.architecture}.{key}" for key in HARMLESS}

    def __contains__(self, key: str) -> bool:
        return f"{self.architecture}.{key}" in self.gguf.metadata

    def get(self, key: str, default: object = None) -> Any:
        """The value of a key, or `default` where the file does not have it."""
        full = f"{self.architecture}.{key}"
        self._read.add(full)
        return self.gguf.metadata.get(full, default)

    def _required(self, key: str, default: object) -> Any:
        value = self.get(key, default)
        if value is None:
            raise InputError(f"{self.gguf.path}: {self.architecture}.{key} is missing; convert the model again")
        return value

    def refuse(self, key: str, value: object, wanted: str) -> InputError:
        """The error to raise about the value of a key."""
        return InputError(f"{self.gguf.path}: {self.architecture}.{key} is {repr(value)[:60]}, not {wanted}")

    def whole(self, key: str, default: int | None = None) -> int:
        """A positive integer; a list of equal ones, one for each layer, counts as one."""
        value = self._required(key, default)
        if isinstance(value, list) and len(set(map(str, value))) == 1:
            value = value[0]
        if type(value) is not int or value <= 0:
            raise self.refuse(key, value, "a positive integer")
        return value

    def whole_or(self, key: str, default: int) -> int:
        """An integer that may be 0."""
        return default if self.get(key, default) == 0 else self.whole(key, default)

    def number(self, key: str, default: float | None = None) -> float:
        """A float32 as the shortest decimal that gives it: the number that was in config.json."""
        value = self._required(key, default)
        if type(value) not in (int, float) or not np.isfinite(value):
            raise self.refuse(key, value, "a number")
        return float(str(np.float32(value)))

    def share(self, key: str, among: int) -> int:
        """A positive integer divided evenly."""
        value = self.whole(key)
        if value % among:
            raise self.refuse(key, value, f"a multiple of {among}")
        return value // among

    def items(self, key: str, count: int) -> list[Any]:
        """A list of so many numbers, one for each layer."""
        value = self._required(key, None)
        if not isinstance(value, list) or len(value) != count or not all(type(v) in (int, float) for v in value):
            raise self.refuse(key, value, f"a list of {count} numbers")
        return value

    def each(self, key: str, count: int) -> list[int]:
        """A positive integer for each layer; a single one holds for all."""
        value = self._required(key, None)
        found = value if isinstance(value, list) else [value] * count
        if len(found) != count or not all(type(item) is int and item > 0 for item in found):
            raise self.refuse(key, value, f"a positive integer, or one for each of {count} layers")
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a matrix that says what the metadata leave unsaid."""
        info = self.gguf.tensors.get(name)
        if info is None or len(info.shape) != 2:
            raise InputError(f"{self.gguf.path}: no matrix {name}; convert the model again")
        return info.shape

    def layers(self) -> int:
        """The number of layers; each has some tensors, so there are fewer of them than tensors."""
        count = self.whole("block_count")
        if count > len(self.gguf.tensors):
            raise self.refuse("block_count", count, f"that of a file with {len(self.gguf.tensors)} tensors")
        return count

    def unread(self) -> set[str]:
        """Keys of the architecture that nobody has asked for."""
        return {key for key in self.gguf.metadata if key.startswith(f"{self.architecture}.")} - self._read


# What changes nothing: the embedding gives the vocabulary, the layout is the same for all, and provenance.
HARMLESS = ("vocab_size", "tensor_data_layout", "rope.scaling.finetuned", "n_deepstack_layers")
