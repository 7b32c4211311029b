"""The engine's shared library: finding it, its functions with their types, and its errors as exceptions."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from ctypes import POINTER, Structure, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_uint8, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import InputError

ABI = 2
FOLDER = Path(__file__).parent / "_lib"
MISSING = "not built: run `python -m vitruvius.native.build` (it needs a C++ compiler)"
STATE_DTYPES = ("f32", "f16", "q8")  # in the order of VT_STATE_…
_ERROR_BYTES = 512


class CMatrix(Structure):
    """vt_matrix: packed weights, `copies` of them one after the other."""

    _fields_ = [
        ("format", c_int32),
        ("rows", c_int32),
        ("cols", c_int32),
        ("copies", c_int32),
        ("data", c_void_p),
        ("bytes", c_int64),
    ]


class CVector(Structure):
    """vt_vector: floats."""

    _fields_ = [("data", c_void_p), ("size", c_int64)]


class CBuffer(Structure):
    """vt_buffer: columns of the arena, in floats."""

    _fields_ = [("offset", c_int32), ("width", c_int32), ("stride", c_int32)]


class CState(Structure):
    """vt_state: what one sequence keeps, see StateSpec in plan.h."""

    _fields_ = [
        ("heads", c_int32),
        ("k_dim", c_int32),
        ("v_dim", c_int32),
        ("shared", c_int32),
        ("window", c_int32),
        ("fixed", c_int32),
    ]


class CPlan(Structure):
    """vt_plan: all of the above, and the operations."""

    _fields_ = [
        ("max_rows", c_int32),
        ("vocab", c_int32),
        ("context", c_int32),
        ("arena", c_int32),
        ("output", c_int32),
        ("buffers", c_int32),
        ("matrices", c_int32),
        ("vectors", c_int32),
        ("states", c_int32),
        ("words", c_int32),
        ("buffer", POINTER(CBuffer)),
        ("matrix", POINTER(CMatrix)),
        ("vector", POINTER(CVector)),
        ("state", POINTER(CState)),
        ("word", POINTER(c_int32)),
    ]


_ERROR = [c_char_p, c_int64]
# name -> (result, arguments); a function whose last arguments are _ERROR returns 0, or fills in what is wrong
_FUNCTIONS: dict[str, tuple[type | None, list[type]]] = {
    "vt_abi": (c_int32, []),
    "vt_ops": (c_char_p, []),
    "vt_simd": (c_char_p, []),
    "vt_alloc": (c_void_p, [c_int64]),
    "vt_free": (None, [c_void_p, c_int64]),
    "vt_packed_bytes": (c_int64, [c_int32, c_int32, c_int32]),
    "vt_pack": (
        c_int,
        [c_int32, c_int32, c_int32, c_char_p, c_void_p, c_int64, c_void_p, c_int64, c_int64, *_ERROR],
    ),
    "vt_unpack": (c_int, [POINTER(CMatrix), c_int32, c_int32, c_int32, c_void_p, *_ERROR]),
    "vt_matmul": (
        c_int,
        [POINTER(CMatrix), c_void_p, c_int32, c_void_p, c_char_p, c_int32, c_int32, POINTER(c_double), *_ERROR],
    ),
    "vt_read": (c_int, [c_void_p, c_int64, c_char_p, c_int32, POINTER(c_double), *_ERROR]),
    "vt_engine_new": (c_int, [POINTER(CPlan), c_char_p, c_int32, POINTER(c_int32), POINTER(c_void_p), *_ERROR]),
    "vt_engine_free": (None, [c_void_p]),
    "vt_engine_bytes": (c_int64, [c_void_p]),
    "vt_sequence_new": (c_int, [c_void_p, c_int64, c_int64, c_int32, POINTER(c_void_p), *_ERROR]),
    "vt_sequence_fork": (c_int, [c_void_p, POINTER(c_void_p), *_ERROR]),
    "vt_sequence_free": (None, [c_void_p]),
    "vt_sequence_bytes": (c_int64, [c_void_p]),
    "vt_sequence_length": (c_int64, [c_void_p]),
    "vt_sequence_torn": (c_int64, [c_void_p]),
    "vt_sequence_reach": (c_int64, [c_void_p, c_int64]),
    "vt_sequence_rewind": (c_int, [c_void_p, c_int64, *_ERROR]),
    "vt_sequence_snapshot": (c_int, [c_void_p, c_int32, *_ERROR]),
    "vt_step": (
        c_int,
        [
            c_void_p,
            c_int32,
            POINTER(c_void_p),
            POINTER(c_int32),
            POINTER(c_int32),
            POINTER(c_uint8),
            POINTER(c_float),
            c_int64,
            *_ERROR,
        ],
    ),
    "vt_interrupt": (None, [c_void_p]),
}


@dataclass(frozen=True)
class Op:
    """An operation of plan.h: its number, and its fields in order with their kinds ("buffer", "maybe_vector" …, or the
    name of a choice)."""

    code: int
    fields: tuple[tuple[str, str], ...]


def processors() -> list[int]:
    """The numbers of those that this process may use, or, where the system does not tell, of all."""
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:
        return list(range(os.cpu_count() or 1))


class Library:
    """The functions of one shared library, by their names in cpp/vitruvius.h.

    Raises OSError where the file is no library of this version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        try:
            for name, (result, arguments) in _FUNCTIONS.items():
                function = getattr(self._library, name)
                function.restype, function.argtypes = result, arguments
        except AttributeError as error:
            raise OSError(f"{path} is of another version: {error}") from error
        if (abi := self._library.vt_abi()) != ABI:
            raise OSError(f"{path} has the interface {abi}, and {ABI} is needed: build it again")
        self.choices, self.ops = described(self._library.vt_ops().decode())

    def call(self, name: str, *arguments: object) -> None:
        """Calls a function that can fail, without the arguments for its error. Raises InputError with its text."""
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        if getattr(self._library, name)(*arguments, error, _ERROR_BYTES):
            raise InputError(error.value.decode(errors="replace"))

    def get(self, name: str, *arguments: object) -> int:
        """Calls a function that returns a number (an address for vt_alloc), or nothing."""
        return int(getattr(self._library, name)(*arguments) or 0)

    def make(self, name: str, *arguments: object) -> c_void_p:
        """Calls a function that makes something, without the arguments for it and for its error."""
        made = c_void_p()
        self.call(name, *arguments, ctypes.byref(made))
        return made

    @property
    def simd(self) -> tuple[str, ...]:
        """The instruction sets that this machine can run, the best first; "naive" are the references."""
        return tuple(self._library.vt_simd().decode().split())


def described(text: str) -> tuple[dict[str, tuple[str, ...]], dict[str, Op]]:
    """What vt_ops says: the names of each choice's numbers, and the operations."""
    choices: dict[str, tuple[str, ...]] = {}
    ops: dict[str, Op] = {}
    for line in text.splitlines():
        kind, name, *rest = line.split()
        if kind == "choice":
            choices[name] = tuple(rest)
        else:
            fields = (field.partition(":") for field in rest)
            ops[name] = Op(len(ops), tuple((field, its_kind) for field, _, its_kind in fields))
    return choices, ops


def _candidates() -> Iterator[Path]:
    yield from sorted(FOLDER.glob("libvitruvius*"))


@cache
def library() -> Library | None:
    """The library, None where it has not been built."""
    for path in _candidates():
        try:
            return Library(path)
        except OSError:
            continue
    return None
