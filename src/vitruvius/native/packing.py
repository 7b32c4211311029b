"""From a checkpoint's tensors to packed matrices, tensor by tensor, on all threads."""

from __future__ import annotations

import os
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..checkpoints.reading import read
from ..checkpoints.stored import Container, Stored
from ..errors import InputError
from ..spec import Tensors
from .formats import FORMATS, OWN
from .library import Library
from .plan import PANEL, Floats, Matrix, Plan, RowBlock

PAGE = 4096  # bytes: where a matrix begins
CHUNK = 1 << 20  # bytes of a tensor that a thread packs at a time
WAITING = 64  # chunks that wait for a thread: what they hold in memory is bounded so

T = TypeVar("T")
Progress = Callable[[Iterable[T], int], Iterable[T]]  # (items, how many) -> the same items, shown as they pass


@dataclass(frozen=True)
class Place:
    """Where a packed matrix lies: `copies` of it, `copy_bytes` apart."""

    address: int
    bytes: int
    copy_bytes: int
    panel_bytes: int


class Packed:
    """The memory of packed matrices and vectors, for one plan or several that share it."""

    def __init__(self, library: Library, plans: Sequence[Plan]) -> None:
        self.library = library
        self.vectors: dict[str, Floats] = {}  # canonical name -> values
        matrices = {matrix: None for plan in plans for matrix in plan.matrices}  # each once, in order
        sizes = [library.get("vt_packed_bytes", FORMATS.index(m.format), m.rows, m.cols) for m in matrices]
        whole = [_aligned(size * matrix.copies) for size, matrix in zip(sizes, matrices, strict=True)]
        self.nbytes = sum(whole)
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        start = library.get("vt_alloc", self.nbytes) if self.nbytes < there else 0
        if not start:
            needed, size = self.nbytes / 2**30, there / 2**30
            raise InputError(f"the weights need {needed:,.1f} GiB as they are packed, and this machine has {size:,.1f}")
        weakref.finalize(self, library.get, "vt_free", start, self.nbytes)
        self.places: dict[Matrix, Place] = {}
        for matrix, size, taken in zip(matrices, sizes, whole, strict=True):
            panel = library.get("vt_packed_bytes", FORMATS.index(matrix.format), PANEL, matrix.cols)
            self.places[matrix] = Place(start, size * matrix.copies, size, panel)
            start += taken


def _aligned(size: int) -> int:
    return -(-size // PAGE) * PAGE


def pack(
    library: Library,
    plans: Sequence[Plan],
    entries: Sequence[Tensors],
    container: Container,
    threads: int,
    progress: Progress[Any] = lambda items, count: items,
) -> Packed:
    """The plans' weights, packed from the file's tensors."""
    packed = Packed(library, plans)
    work = _Work(packed, plans)
    with ThreadPoolExecutor(threads) as pool:
        running: list[Future[None]] = []
        for entry in progress(entries, len(entries)):
            for name, copy, tensor in read(entry, container):
                running += [pool.submit(job) for job in work.of(name, copy, tensor)]
            while len(running) > WAITING:
                running.pop(0).result()
        for future in running:
            future.result()
    work.finish()
    return packed


class _Work:
    """Which matrices and vectors each weight goes to."""

    def __init__(self, packed: Packed, plans: Sequence[Plan]) -> None:
        self._packed = packed
        self._pieces: dict[str, list[tuple[Matrix, RowBlock]]] = defaultdict(list)
        for matrix in packed.places:
            for piece in matrix.pieces:
                self._pieces[piece.name].append((matrix, piece))
        self._names = {name for plan in plans for vector in plan.vectors for name in vector.names}
        self._copies: dict[str, dict[int, Floats]] = defaultdict(dict)  # of vectors that the file has one by one
        self._joined: dict[Matrix, dict[str, Stored]] = defaultdict(dict)  # pieces that share a panel

    def of(self, name: str, copy: int | None, tensor: Stored) -> Iterator[Callable[[], None]]:
        """What is to be done with a weight that has been read."""
        if name in self._names:
            if copy is None:
                self._packed.vectors[name] = np.array(tensor.floats())
            else:
                self._copies[name][copy] = np.array(tensor.floats())
        for matrix, piece in self._pieces[name]:
            if piece.change:
                yield from self._rows(matrix, piece, None, Stored("F32", piece.change(tensor.floats())))
            elif any(other.row % PANEL for other in matrix.pieces):
                yield from self._join(matrix, piece, tensor)
            else:
                yield from self._rows(matrix, piece, copy, tensor)

    def finish(self) -> None:
        """Puts together what has come one by one."""
        for name, copies in self._copies.items():
            self._packed.vectors[name] = np.stack([copies[i] for i in range(len(copies))])

    def _join(self, matrix: Matrix, piece: RowBlock, tensor: Stored) -> Iterator[Callable[[], None]]:
        """Pieces that do not begin with a panel wait for the others."""
        found = self._joined[matrix]
        found[piece.name] = tensor
        if len(found) == len(matrix.pieces):
            parts = [found[other.name] for other in matrix.pieces]
            if len({part.kind for part in parts}) > 1 or any(part.turned for part in parts):
                parts = [Stored("F32", part.floats()) for part in parts]
            whole = Stored(parts[0].kind, np.concatenate([part.array for part in parts]))
            del self._joined[matrix]
            yield from self._rows(matrix, RowBlock(piece.name, 0, matrix.rows), None, whole)

    def _rows(self, matrix: Matrix, piece: RowBlock, copy: int | None, tensor: Stored) -> Iterator[Callable[[], None]]:
        """The rows of a piece, in chunks that threads pack."""
        if tensor.turned:
            tensor = Stored("F32", tensor.floats())
        arrays = tensor.array[None] if tensor.array.ndim == 2 else tensor.array
        copies = range(matrix.copies) if copy is None else (copy,)
        size = max(1, arrays[0, 0].nbytes)
        step = max(PANEL, CHUNK // size // PANEL * PANEL)
        for at, rows in zip(copies, arrays, strict=True):
            for start in range(0, piece.rows, step):
                part = Stored(tensor.kind, rows[start : start + step])
                yield _Job(self._packed, matrix, piece, at, start, part)


@dataclass(frozen=True, eq=False)
class _Job:
    """Packs the rows from `start` on of one copy of a piece."""

    packed: Packed
    matrix: Matrix
    piece: RowBlock
    copy: int
    start: int
    part: Stored

    def __call__(self) -> None:
        """See the class."""
        part, matrix, piece = self.part, self.matrix, self.piece
        if part.kind not in ("F32", "F16", "BF16") and OWN.get(part.kind) != matrix.format:
            part = Stored("F32", part.floats())
        if part.kind == "F64":
            part = Stored("F32", part.floats())
        rows = np.require(part.array, requirements=["C", "ALIGNED"])  # files may have a tensor at any byte
        place = self.packed.places[matrix]
        panel = piece.row // PANEL + self.start // PANEL * piece.step
        offset = self.copy * place.copy_bytes + panel * place.panel_bytes
        self.packed.library.call(
            "vt_pack",
            FORMATS.index(matrix.format),
            len(rows),
            matrix.cols,
            part.kind.encode(),
            rows.ctypes.data,
            rows.nbytes,
            place.address + offset,
            place.bytes - offset,
            piece.step * place.panel_bytes,
        )
