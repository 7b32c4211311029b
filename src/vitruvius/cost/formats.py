"""Formats that weights are stored in, scales and all, to the byte.

Three kinds. A *plain* one ("bf16", "fp8") gives every weight so many bits. A *packed* one stores the matrices of the
layers in few bits beside scales, and leaves the rest at the dtype of the model: norms and biases, which are small and
set the scale of everything; the router, whose near ties a rounding would turn; the embedding and the head, which see
rare tokens; what joins the inputs of multi-token prediction. A *mixture* is one of llama.cpp's file types, which gives
each tensor its kind by rules of its own (`gguf_kinds`).

    fp8-block     E4M3, a float32 scale for each 128 × 128 block; products in FP8 (DeepSeek-V3, README_WEIGHTS.md)
    int8-channel  a scale for each output, at the model's dtype; products in INT8 (compressed-tensors W8A8; arXiv
                  2206.01861)
    int4-g32 …    a scale for each 32, 64 or 128 along a row (GPTQ, arXiv 2210.17323, symmetric)
    awq           as int4-g128, with a zero point of 4 bits for each scale (arXiv 2306.00978)
    mxfp4         E2M1, an exponent of 8 bits for each 32 (OCP Microscaling Formats 1.0); of the experts only, where
                  there are any (gpt-oss, arXiv 2508.10925)
    nf4           4 bits, a float32 scale for each 64 (QLoRA, arXiv 2305.14314); `nf4-nested` has 8 bits for each 64,
                  and a float32 for 256 of these: 4.127 bits in all
    nvfp4         E2M1, an E4M3 scale for each 16 and a float32 for the matrix; products in FP4
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from ..errors import InputError
from ..spec import Decoder, walk
from .counting import Counted
from .dtypes import DTYPES, bits, stored
from .gguf_kinds import MIXTURES, mixture


@dataclass(frozen=True)
class Plain:
    """Every weight at `dtype`, but for those that the architecture fixes."""

    name: str

    def compute(self, dtype: str) -> str:
        """The dtype of the factors of matrix products: integers of 4 bits are widened to that of the activations."""
        return dtype if self.name == "int4" else self.name

    def stored(self, weight: Counted, dtype: str) -> int:
        """Bytes of all copies."""
        return stored(weight.elements, weight.dtype or self.name)

    def tile_of(self, weight: Counted) -> tuple[int | None, int | None] | None:
        """Rows and columns that share a scale and that engines refuse to cut, None for all of them; None for a weight
        without such."""
        return None


@dataclass(frozen=True)
class PackedFormat:
    """Matrices of (rows, columns) cut into tiles, each with a scale.

    Args:
        element: bits of one element.
        tile: rows and columns that share a scale, None for all of them.
        scale: bits of a tile's scale, None for those of the model's dtype.
        whole: bits of what a whole matrix has beside.
        products: the dtype that products are computed in, None for that of the activations.
        experts: whether only experts are packed.
        scales: numbers at `scale` for each tile (a bias beside the scale).
        zero: bits of a tile's zero point.
        column: bits of what each input has beside (the group that it belongs to).
        padded: whether engines pad what a device has to whole tiles (vLLM, quantization/mxfp4.py).
    """

    name: str
    element: int
    tile: tuple[int | None, int | None]
    scale: int | None
    whole: int = 0
    products: str | None = None
    experts: bool = False
    scales: int = 1
    zero: int = 0
    column: int = 0
    padded: bool = False

    def compute(self, dtype: str) -> str:
        """The dtype of the factors of matrix products."""
        return self.products or dtype

    def stored(self, weight: Counted, dtype: str) -> int:
        """Bytes of all copies, where they are packed; else at `dtype`."""
        return self.packed(weight, dtype) if self.packs(weight) else stored(weight.elements, weight.dtype or dtype)

    def tile_of(self, weight: Counted) -> tuple[int | None, int | None] | None:
        """Rows and columns that share a scale and that engines refuse to cut, None for all of them; None for a weight
        without such."""
        return self.tile if self.packs(weight) and not self.padded else None

    def packed(self, weight: Counted, dtype: str) -> int:
        """Bytes of all copies of a matrix that is packed."""
        rows, columns = weight.weight.shape
        tall, wide = self.tile[0] or rows, self.tile[1] or columns
        tiles = -(-rows // tall) * -(-columns // wide)
        scale = self.scales * (bits(dtype) if self.scale is None else self.scale) + self.zero
        beside = tiles * scale + columns * self.column + self.whole
        return weight.copies * -(-(rows * columns * self.element + beside) // 8)

    def packs(self, weight: Counted) -> bool:
        """Whether it is a matrix of the layers, and of the experts where only these are packed."""
        matrix = weight.product and len(weight.weight.shape) == 2 and weight.dtype is None
        return matrix and not weight.node.spec.unpacked and (weight.copies > 1 or not self.experts)


@runtime_checkable
class Format(Protocol):
    """How weights are stored: `name` says what it is called."""

    @property
    def name(self) -> str:
        """For people."""

    def compute(self, dtype: str) -> str:
        """The dtype of the factors of matrix products, where activations are at `dtype`."""

    def stored(self, weight: Counted, dtype: str) -> int:
        """Bytes of all copies of a weight, where what is not packed is at `dtype`."""

    def tile_of(self, weight: Counted) -> tuple[int | None, int | None] | None:
        """Rows and columns that share a scale and that engines refuse to cut, None for all of them; None for a weight
        without such."""


PACKED: Mapping[str, PackedFormat] = {
    each.name: each
    for each in (
        PackedFormat("fp8-block", 8, (128, 128), 32, products="fp8"),
        PackedFormat("int8-channel", 8, (1, None), None, products="int8"),
        *(PackedFormat(f"int4-g{group}", 4, (1, group), None) for group in (32, 64, 128)),
        PackedFormat("awq", 4, (1, 128), 16 + 4),
        PackedFormat("nf4", 4, (1, 64), 32, padded=True),
        PackedFormat("nf4-nested", 4, (1, 2048), 2048 // 64 * 8 + 2048 * 32 // (64 * 256), padded=True),
        PackedFormat("mxfp4", 4, (1, 32), 8, experts=True, padded=True),
        PackedFormat("nvfp4", 4, (1, 16), 8, whole=32, products="fp4", padded=True),
    )
}
NAMES = tuple(dict.fromkeys((*DTYPES, *PACKED, *(name.lower() for name in MIXTURES))))


def weight_format(name: str, arch: Decoder) -> Format:
    """The format of this name for the weights of `arch`. Raises InputError for a name that is not known."""
    known = name.casefold()
    if known in DTYPES:
        return Plain(known)
    if (dashed := known.replace("_", "-")) in PACKED:
        packed = PACKED[dashed]
        return packed if has_experts(arch) else replace(packed, experts=False)
    if made := mixture(known, arch):
        return made
    raise InputError(f"weight format {name!r} is not known: it is one of {', '.join(NAMES)}")


def has_experts(arch: Decoder) -> bool:
    """Whether some layer has experts."""
    return any(axis.cut == "experts" for node in walk(arch, arch.width) for axis in node.copies)
