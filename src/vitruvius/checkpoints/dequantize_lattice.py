"""GGUF's kinds of less than four bits: eight or four values at a time are a point of a fixed lattice, signs beside it.

Layouts are those of ggml (ggml-org/llama.cpp, ggml/src/ggml-common.h and ggml-quants.c); `lattices.npz` holds its
tables of points. IQ1 has steps of one and a shift of an eighth instead of signs; TQ packs values −1, 0, 1 in base three
or two bits (arXiv 2402.17764); NVFP4 has a scale for each 16 values.
"""

from __future__ import annotations

from functools import cache, partial
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Floats = NDArray[np.float32]

E2M1 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)  # twice the 4-bit float
SHIFT = np.float32(0.125)  # of IQ1, up or down
# Seven sign bits; the eighth makes their number even.
PARITY = np.array([i | (i.bit_count() & 1) << 7 for i in range(128)], np.uint8)


@cache
def lattice(kind: str) -> Floats:
    """The points of a kind, (points, values of each)."""
    with resources.files(__package__).joinpath("lattices.npz").open("rb") as file, np.load(file) as tables:
        return np.asarray(tables[kind], np.float32)


def words(blocks: Bytes, begin: int, end: int, kind: str) -> NDArray[np.unsignedinteger]:
    """Bytes of each block as little-endian integers."""
    found: NDArray[np.unsignedinteger] = np.ascontiguousarray(blocks[:, begin:end]).view(np.dtype(kind))
    return found


def half(blocks: Bytes, at: int) -> Floats:
    """The float16 at a byte of each block, (blocks, 1)."""
    return words(blocks, at, at + 2, "<f2").astype(np.float32)


def signs(bits: Bytes) -> Floats:
    """(…, n) bytes -> (…, n, 8): −1 where a bit is set, the lowest first."""
    return 1 - 2 * np.unpackbits(bits[..., None], axis=-1, bitorder="little").astype(np.float32)


def nibbles(packed: Bytes) -> Bytes:
    """(blocks, n) -> (blocks, 2n): the lower half of each byte, then its upper."""
    return np.stack((packed & 15, packed >> 4), -1).reshape(len(packed), -1)


def high_bits(packed: Bytes, shifts: range) -> NDArray[np.uint16]:
    """(blocks, n) -> (blocks, n · shifts): each byte shifted, as the upper half of a 16-bit index."""
    apart = packed[..., None].astype(np.uint16) >> np.arange(shifts.start, shifts.stop, shifts.step, dtype=np.uint16)
    return np.left_shift(apart, np.uint16(8)).reshape(len(packed), -1)


def _write(out: Floats, scale: Floats, points: Floats) -> None:
    """scale (blocks, groups) times the points of each group."""
    out.reshape(*scale.shape, -1)[:] = scale[..., None] * points.reshape(*scale.shape, -1)


def _signs_beside(blocks: Bytes, out: Floats, kind: str, step: float) -> None:
    """IQ2_XXS and IQ3_XXS: for 32 values a word with four times seven sign bits and a scale of four bits."""
    if kind == "iq2_xxs":
        pairs = words(blocks, 2, 66, "<u4").reshape(len(blocks), 8, 2)
        index, rest = np.ascontiguousarray(pairs[..., 0]).view(np.uint8).reshape(len(blocks), -1), pairs[..., 1]
    else:
        index, rest = blocks[:, 2:66], words(blocks, 66, 98, "<u4")
    sevens = (rest[..., None] >> np.arange(0, 28, 7, dtype=np.uint32)) & np.uint32(127)
    points = lattice(kind)[index].reshape(len(blocks), 32, 8) * signs(PARITY[sevens]).reshape(len(blocks), 32, 8)
    _write(out, half(blocks, 0) * (np.float32(0.5) + (rest >> 28).astype(np.float32)) * np.float32(step), points)


def _iq2_xs(blocks: Bytes, out: Floats) -> None:
    packed = words(blocks, 2, 66, "<u2")
    points = lattice("iq2_xs")[packed & 511] * signs(PARITY[packed >> 9])
    _write(out, _sixteenths(blocks, 66, 74), points)


def _iq2_s(blocks: Bytes, out: Floats) -> None:
    index = blocks[:, 2:34] | high_bits(blocks[:, 66:74], range(0, 8, 2)) & 0x300
    _write(out, _sixteenths(blocks, 74, 82), lattice("iq2_s")[index] * signs(blocks[:, 34:66]))


def _sixteenths(blocks: Bytes, begin: int, end: int) -> Floats:
    """IQ2's scales of 16 values each."""
    return half(blocks, 0) * (np.float32(0.5) + nibbles(blocks[:, begin:end])) * np.float32(0.25)


def _iq3_s(blocks: Bytes, out: Floats) -> None:
    index = blocks[:, 2:66] | high_bits(blocks[:, 66:74], range(8)) & 0x100
    points = lattice("iq3_s")[index].reshape(len(blocks), 32, 8) * signs(blocks[:, 74:106])
    _write(out, half(blocks, 0) * (1 + 2 * nibbles(blocks[:, 106:110])).astype(np.float32), points)


def _iq1_s(blocks: Bytes, out: Floats) -> None:
    high = words(blocks, 34, 50, "<u2")
    threes = (high[..., None] >> np.arange(0, 12, 3, dtype=np.uint16)) & np.uint16(7)
    index = blocks[:, 2:34] | (threes << 8).reshape(len(blocks), -1)
    shift = np.where(high & np.uint16(0x8000), -SHIFT, SHIFT)[..., None, None]
    points = lattice("iq1_s")[index].reshape(len(blocks), 8, 4, 8) + shift
    _write(out, half(blocks, 0) * (2 * (high >> 12 & 7) + 1).astype(np.float32), points)


def _iq1_m(blocks: Bytes, out: Floats) -> None:
    scales = words(blocks, 48, 56, "<u2")
    quarters = (scales & np.uint16(0xF000)) >> np.array([12, 8, 4, 0], np.uint16)  # of one float16
    whole = np.bitwise_or.reduce(quarters, -1).astype(np.uint16).view(np.float16).astype(np.float32)[:, None]
    threes = ((scales[..., None] >> np.arange(0, 12, 3, dtype=np.uint16)) & np.uint16(7)).reshape(len(blocks), -1)
    high = nibbles(blocks[:, 32:48])
    index = blocks[:, :32] | (high & np.uint16(7)).astype(np.uint16) << 8
    shift = np.where(high & 8, -SHIFT, SHIFT).reshape(len(blocks), 32, 1)
    _write(out, whole * (2 * threes + 1).astype(np.float32), lattice("iq1_s")[index] + shift)


def _tq1_0(blocks: Bytes, out: Floats) -> None:
    threes = np.array([1, 3, 9, 27, 81], np.uint8)[:, None]
    parts = ((blocks[:, :32], threes), (blocks[:, 32:48], threes), (blocks[:, 48:52], threes[:4]))
    digits = [
        (packed[:, None] * power).reshape(len(blocks), -1) for packed, power in parts
    ]  # of base three, modulo 256
    values = (np.concatenate(digits, 1).astype(np.uint16) * 3 >> 8).astype(np.float32) - 1
    out[:] = half(blocks, 52) * values


def _tq2_0(blocks: Bytes, out: Floats) -> None:
    apart = blocks[:, :64].reshape(-1, 2, 1, 32) >> np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    out[:] = half(blocks, 64) * ((apart & 3).reshape(len(blocks), -1).astype(np.float32) - 1)


def _nvfp4(blocks: Bytes, out: Floats) -> None:
    exponent, mantissa = blocks[:, :4] >> 3 & 15, (blocks[:, :4] & 7).astype(np.float32)
    normal = (1 + mantissa / 8) * np.exp2(exponent.astype(np.float32) - 7)
    scale = np.where(exponent == 0, mantissa * np.float32(2**-9), normal) * np.float32(0.5)  # E2M1 is doubled
    scale[(blocks[:, :4] == 0) | (blocks[:, :4] == 127)] = 0
    packed = blocks[:, 4:].reshape(-1, 4, 8)
    _write(out, scale.astype(np.float32), E2M1[np.concatenate((packed & 15, packed >> 4), -1)])


DECODERS: dict[str, Callable[[Bytes, Floats], None]] = {
    "IQ1_S": _iq1_s,
    "IQ1_M": _iq1_m,
    "IQ2_XXS": partial(_signs_beside, kind="iq2_xxs", step=0.25),
    "IQ2_XS": _iq2_xs,
    "IQ2_S": _iq2_s,
    "IQ3_XXS": partial(_signs_beside, kind="iq3_xxs", step=0.5),
    "IQ3_S": _iq3_s,
    "TQ1_0": _tq1_0,
    "TQ2_0": _tq2_0,
    "NVFP4": _nvfp4,
}
