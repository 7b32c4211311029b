"""Memory of exactly the size asked for, so that the sanitizer sees the first byte beyond it."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

_c = ctypes.CDLL(None)
_c.free.argtypes = [ctypes.c_void_p]
_c.posix_memalign.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_size_t]


class Memory:
    """`size` bytes from malloc, aligned to 64; `skip` more before them make it misaligned."""

    def __init__(self, size: int, skip: int = 0) -> None:
        place = ctypes.c_void_p()
        if _c.posix_memalign(ctypes.byref(place), 64, size + skip):
            raise MemoryError
        weakref.finalize(self, _c.free, place.value)
        self.address, self.size = int(place.value or 0) + skip, size

    def array(self, dtype: Any = np.uint8) -> NDArray[Any]:
        """The memory as an array, which does not keep it alive."""
        raw = (ctypes.c_uint8 * self.size).from_address(self.address)
        return np.frombuffer(raw, dtype)


def holding(values: NDArray[Any], skip: int = 0) -> Memory:
    """A copy of the array's bytes."""
    made = Memory(values.nbytes, skip)
    made.array()[:] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return made
