"""GGUF: the file, what its metadata say (`config`, `keys`), and its tensors' names (`names`)."""

from .container import GGUF
from .header import KINDS, IncompleteError

__all__ = ["GGUF", "KINDS", "IncompleteError"]
