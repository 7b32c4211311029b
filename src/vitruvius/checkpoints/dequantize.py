"""Quantised blocks to float32, for each kind of tensor that GGUF files commonly hold.

A row is cut into blocks of 32 or 256 elements; a block is a few scales and the packed integers. The layouts are those
of ggml (ggml-org/llama.cpp, ggml/src/ggml-common.h and ggml-quants.c); MXFP4 is that of the OCP microscaling
specification 1.0. Products and sums are done in float32 in ggml's order, so the results equal its own bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..spec import BLOCKS
from . import dequantize_lattice as lattice

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Floats = NDArray[np.float32]

SLICE = 1 << 16  # elements at a time: temporaries stay in the processor's cache, whatever the size of the tensor


def dequantize(packed: Bytes, kind: str) -> Floats:
    """Whole blocks of `kind` as float32.

    Args:
        packed: (bytes,) whole blocks, contiguous.
        kind: a key of `DECODERS`.

    Returns:
        (elements,) float32; for F32 a view of `packed`.

    Raises:
        InputError: the kind is not supported.
    """
    if kind == "F32":
        return packed.view(np.float32)
    decode = DECODERS.get(kind)
    if decode is None:
        raise InputError(f"{kind} tensors cannot be dequantised; supported kinds: {', '.join(['F32', *DECODERS])}")
    elements, size = BLOCKS[kind]
    blocks = packed.reshape(-1, size)
    out = np.empty((len(blocks), elements), dtype=np.float32)
    step = max(1, SLICE // elements)
    with np.errstate(over="ignore", invalid="ignore"):  # a damaged scale may be infinite or not a number
        for start in range(0, len(blocks), step):
            decode(blocks[start : start + step], out[start : start + step])
    return out.reshape(-1)


def _half(blocks: Bytes, at: int) -> Floats:
    """The float16 at byte `at` of each block, as float32 (blocks, 1)."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32)


def _nibbles(packed: Bytes) -> Bytes:
    """(blocks, n) bytes → (blocks, 2, n): the low halves, then the high halves."""
    return np.stack((packed & 0x0F, packed >> 4), axis=1)


def _bits(packed: Bytes, width: int) -> Bytes:
    """(blocks, n) bytes → (blocks, 8 / width, n): the lowest `width` bits of all bytes, then the next."""
    shifts = np.arange(0, 8, width, dtype=np.uint8)[None, :, None]
    return (packed[:, None, :] >> shifts) & np.uint8((1 << width) - 1)


def _f16(blocks: Bytes, out: Floats) -> None:
    out[:] = blocks.view(np.float16)


def _bf16(blocks: Bytes, out: Floats) -> None:
    bits = out.view(np.uint32)
    bits[:] = blocks.view(np.uint16)
    bits <<= 16


def _f64(blocks: Bytes, out: Floats) -> None:
    out[:] = blocks.view(np.float64)


def _q4_0(blocks: Bytes, out: Floats) -> None:
    out[:] = _nibbles(blocks[:, 2:]).reshape(-1, 32)
    out -= 8
    out *= _half(blocks, 0)


def _q4_1(blocks: Bytes, out: Floats) -> None:
    out[:] = _nibbles(blocks[:, 4:]).reshape(-1, 32)
    out *= _half(blocks, 0)
    out += _half(blocks, 2)


def _fifth_bit(blocks: Bytes, at: int) -> Bytes:
    """The bit of weight 16 of each of the 32 elements, from the four bytes at `at`, in the order of the elements."""
    return np.unpackbits(blocks[:, at : at + 4], axis=1, bitorder="little") << np.uint8(4)


def _q5_0(blocks: Bytes, out: Floats) -> None:
    out[:] = _nibbles(blocks[:, 6:]).reshape(-1, 32) | _fifth_bit(blocks, 2)
    out -= 16
    out *= _half(blocks, 0)


def _q5_1(blocks: Bytes, out: Floats) -> None:
    out[:] = _nibbles(blocks[:, 8:]).reshape(-1, 32) | _fifth_bit(blocks, 4)
    out *= _half(blocks, 0)
    out += _half(blocks, 2)


def _q8_0(blocks: Bytes, out: Floats) -> None:
    out[:] = blocks[:, 2:].view(np.int8)
    out *= _half(blocks, 0)


def _q2_k(blocks: Bytes, out: Floats) -> None:
    scales = blocks[:, :16]
    grouped = out.reshape(-1, 16, 16)
    for half in (0, 1):  # 128 elements from 32 bytes: 32 from their lowest two bits, 32 from the next two …
        out.reshape(-1, 2, 4, 32)[:, half] = _bits(blocks[:, 16 + 32 * half : 48 + 32 * half], 2)
    grouped *= (_half(blocks, 80) * (scales & 0x0F))[:, :, None]
    grouped -= (_half(blocks, 82) * (scales >> 4))[:, :, None]


def _q3_k(blocks: Bytes, out: Floats) -> None:
    # Sixteen 6-bit scales in 12 bytes: 8 bytes hold the low halves, 4 bytes the upper two bits of each.
    low, high = _nibbles(blocks[:, 96:104]), _bits(blocks[:, 104:108], 2)
    scales = (low.reshape(-1, 16) | high.reshape(-1, 16) << 4).view(np.int8) - np.int8(32)
    for half in (0, 1):
        out.reshape(-1, 2, 4, 32)[:, half] = _bits(blocks[:, 32 + 32 * half : 64 + 32 * half], 2)
    out -= ((1 - _bits(blocks[:, :32], 1)) << 2).reshape(-1, 256)  # where the mask has a 1 nothing is taken off
    grouped = out.reshape(-1, 16, 16)
    grouped *= (_half(blocks, 108) * scales)[:, :, None]


def _scales_and_minima(packed: Bytes) -> tuple[Bytes, Bytes]:
    """Eight 6-bit scales and minima from the 12 bytes that Q4_K and Q5_K have for them (get_scale_min_k4 in ggml)."""
    scale, minimum, rest = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    return (
        np.concatenate((scale & 0x3F, (rest & 0x0F) | (scale >> 2) & 0x30), axis=1),
        np.concatenate((minimum & 0x3F, (rest >> 4) | (minimum >> 2) & 0x30), axis=1),
    )


def _scale_and_shift(blocks: Bytes, out: Floats) -> None:
    """d · scale · q − dmin · minimum for groups of 32, with the header of Q4_K and Q5_K."""
    scales, minima = _scales_and_minima(blocks[:, 4:16])
    grouped = out.reshape(-1, 8, 32)
    grouped *= (_half(blocks, 0) * scales)[:, :, None]
    grouped -= (_half(blocks, 2) * minima)[:, :, None]


def _q4_k(blocks: Bytes, out: Floats) -> None:
    halves = out.reshape(-1, 4, 2, 32)
    packed = blocks[:, 16:].reshape(-1, 4, 32)
    halves[:, :, 0] = packed & 0x0F
    halves[:, :, 1] = packed >> 4
    _scale_and_shift(blocks, out)


def _q5_k(blocks: Bytes, out: Floats) -> None:
    halves = out.reshape(-1, 4, 2, 32)
    packed = blocks[:, 48:].reshape(-1, 4, 32)
    fifth = _bits(blocks[:, 16:48], 1).reshape(-1, 4, 2, 32) << 4
    halves[:, :, 0] = packed & 0x0F | fifth[:, :, 0]
    halves[:, :, 1] = packed >> 4 | fifth[:, :, 1]
    _scale_and_shift(blocks, out)


def _q6_k(blocks: Bytes, out: Floats) -> None:
    for half in (0, 1):
        low = _nibbles(blocks[:, 64 * half : 64 * half + 64]).reshape(-1, 4, 32)
        high = _bits(blocks[:, 128 + 32 * half : 160 + 32 * half], 2) << 4
        out.reshape(-1, 2, 4, 32)[:, half] = low | high
    out -= 32
    grouped = out.reshape(-1, 16, 16)
    grouped *= (_half(blocks, 208) * blocks[:, 192:208].view(np.int8))[:, :, None]


# The values that four bits stand for in IQ4.
IQ4 = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float32)


def _iq4_nl(blocks: Bytes, out: Floats) -> None:
    out[:] = IQ4[_nibbles(blocks[:, 2:]).reshape(-1, 32)]
    out *= _half(blocks, 0)


def _iq4_xs(blocks: Bytes, out: Floats) -> None:
    low = np.stack((blocks[:, 4:8] & 0x0F, blocks[:, 4:8] >> 4), axis=2).reshape(-1, 8)
    high = np.ascontiguousarray(blocks[:, 2:4]).view(np.uint16) >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    scales = (low | high.astype(np.uint8) << 4).view(np.int8) - np.int8(32)
    grouped = out.reshape(-1, 8, 2, 16)
    packed = blocks[:, 8:].reshape(-1, 8, 16)
    grouped[:, :, 0] = IQ4[packed & 0x0F]
    grouped[:, :, 1] = IQ4[packed >> 4]
    grouped *= (_half(blocks, 0) * scales)[:, :, None, None]


def _mxfp4(blocks: Bytes, out: Floats) -> None:
    # Half of 2^(e − 127), because E2M1 is doubled; for e < 2 that is a subnormal number, whose bits are written out.
    exponent = blocks[:, :1].astype(np.uint32)
    bits = np.where(exponent < 2, np.uint32(0x00200000) << np.minimum(exponent, 1), (exponent - 1) << 23)
    out[:] = lattice.E2M1[_nibbles(blocks[:, 1:]).reshape(-1, 32)]
    out *= bits.astype(np.uint32).view(np.float32)


# kind → function that writes (blocks, elements) float32 for (blocks, bytes) uint8
DECODERS: dict[str, Callable[[Bytes, Floats], None]] = {
    "F16": _f16,
    "BF16": _bf16,
    "F64": _f64,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
    "MXFP4": _mxfp4,
    **lattice.DECODERS,
}
