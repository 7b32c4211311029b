"""Matrices that are stored in a few bits beside their scales, presented as ordinary tensors.

- FP8: E4M3 values with one float32 scale for each block of 128 × 128, in `NAME_scale_inv` (deepseek-ai/DeepSeek-V3,
  README_WEIGHTS.md and inference/fp8_cast_bf16.py).
- MXFP4: E2M1 values, two in a byte, with one power of two for each 32 along a row, in `NAME_blocks` and `NAME_scales`
  (OCP Microscaling Formats 1.0; openai/gpt-oss, gpt_oss/torch/weights.py).

Unpacking loses the packed form, so a model that was loaded so is saved unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .stored import Container, Stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = tuple[int, ...]
BLOCK = 128
SUPPORTED = ("fp8", "mxfp4")  # quantization_config.quant_method


class Unpacked:
    """A container with its packed tensors unpacked when they are read: FP8 to float32, MXFP4 to the blocks that GGUF
    has."""

    def __init__(self, container: Container) -> None:
        self.path, self._container = container.path, container
        shapes = container.shapes()
        scaled = {name.removesuffix("_scale_inv") for name in shapes if name.endswith("_scale_inv")} & shapes.keys()
        blocks = {name.removesuffix("_blocks") for name in shapes if name.endswith("_blocks")}
        self._blocks = {name for name in blocks - scaled if f"{name}_scales" in shapes}
        self.packed = frozenset(scaled | self._blocks)
        hidden = {f"{name}{end}" for name in self.packed for end in ("_scale_inv", "_blocks", "_scales")}
        self._shapes = {name: shape for name, shape in shapes.items() if name not in hidden}
        for name in self._blocks:
            *experts, rows, groups, half = self._blocks_shape(shapes[f"{name}_blocks"], name)
            self._shapes[name] = (*experts, groups * half * 2, rows)
        for name in scaled:
            self._check_scales(name, shapes[name], shapes[f"{name}_scale_inv"])

    def shapes(self) -> Mapping[str, Shape]:
        """Name -> shape of every tensor, as if none were packed."""
        return self._shapes

    def stored(self, name: str) -> Stored:
        """A tensor: MXFP4 in the order that GGUF has, FP8 in float32, all else as the file has it."""
        stored = self._container.stored
        if name not in self.packed:
            return stored(name)
        if name not in self._blocks:
            return Stored("F32", scaled_fp8(stored(name).array, stored(f"{name}_scale_inv").floats()))
        blocks, scales = stored(f"{name}_blocks").array, stored(f"{name}_scales").array
        nibbles = np.stack((blocks & 15, blocks >> 4), -1).reshape(*blocks.shape[:-1], 2, 16)
        packed = np.concatenate((scales[..., None], nibbles[..., 0, :] | nibbles[..., 1, :] << 4), -1)
        # the file's rows are outputs; the unpacked checkpoints of this model store (in, out)
        return Stored("MXFP4", packed.view(np.dtype((np.void, 17)))[..., 0], turned=True)

    def kind(self, name: str) -> str:
        """The kind of what is packed."""
        return "MXFP4" if name in self._blocks else self._container.kind(name)

    def _blocks_shape(self, shape: Shape, name: str) -> Shape:
        if len(shape) < 3 or shape[-1] != 16:
            raise InputError(f"{self.path}: {name}_blocks has the shape {shape}; MXFP4 has 16 bytes for each 32 values")
        return shape

    def _check_scales(self, name: str, shape: Shape, scales: Shape) -> None:
        needed = tuple(-(-size // BLOCK) for size in shape)
        if len(shape) != 2 or scales != needed:
            raise InputError(f"{self.path}: {name} {shape} needs scales {needed} for blocks of {BLOCK}, got {scales}")


def refuse_quantized(config: Mapping[str, Any], name: str) -> None:
    """Formats that can be costed but not loaded are named."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        method = part.get("quantization_config")
        if isinstance(method, Mapping) and (called := method.get("quant_method", "an unnamed method")) not in SUPPORTED:
            raise InputError(
                f"{name} is quantized with {called}, which cannot be loaded: "
                "take the original checkpoint or a GGUF file (cost, show and compare work)"
            )


def scaled_fp8(values: NDArray[np.uint8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bytes of E4M3 (out, in) (Micikevicius et al. 2022, arXiv 2209.05433, table 1), times their scales
    (⌈out/128⌉, ⌈in/128⌉)."""
    byte = np.arange(256)
    exponent, mantissa = byte >> 3 & 15, byte & 7
    sizes = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    sizes[byte & 127 == 127] = np.nan
    table = np.where(byte < 128, sizes, -sizes).astype(np.float32)
    rows, columns = values.shape
    return table[values] * scales.repeat(BLOCK, 0)[:rows].repeat(BLOCK, 1)[:, :columns]
