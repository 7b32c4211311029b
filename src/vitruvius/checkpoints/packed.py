"""Checkpoints whose matrices are stored in a few bits beside their scales, presented as ordinary tensors.

- FP8: E4M3 values with one float32 scale for each block of 128 × 128, in `NAME_scale_inv` (deepseek-ai/DeepSeek-V3,
  README_WEIGHTS.md and inference/fp8_cast_bf16.py).
- MXFP4: E2M1 values, two in a byte, with one power of two for each 32 along a row, in `NAME_blocks` and `NAME_scales`
(OCP
  Microscaling Formats 1.0; openai/gpt-oss, gpt_oss/torch/weights.py).

Unpacking loses the packed form, so a model that was loaded so is saved unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..spec import Decoder

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from .stored import Stored
    from .tensors import Checkpoint

Shape = tuple[int, ...]
BLOCK = 128
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # and their negatives
SUPPORTED = ("fp8", "mxfp4")  # quantization_config.quant_method


class Unpacked:
    """A checkpoint with its packed tensors unpacked to float32 when they are read."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.path, self._checkpoint = checkpoint.path, checkpoint
        stored = checkpoint.shapes()
        scaled = {name.removesuffix("_scale_inv") for name in stored if name.endswith("_scale_inv")}
        blocks = {name.removesuffix("_blocks") for name in stored if name.endswith("_blocks")}
        self.packed = frozenset(scaled & stored.keys()) | {name for name in blocks if f"{name}_scales" in stored}
        hidden = {f"{name}{end}" for name in self.packed for end in ("_scale_inv", "_blocks", "_scales")}
        self._shapes = {name: shape for name, shape in stored.items() if name not in hidden}
        for name in self.packed - scaled:
            *experts, rows, groups, half = self._blocks_shape(stored[f"{name}_blocks"], name)
            self._shapes[name] = (*experts, groups * half * 2, rows)
        for name in scaled & stored.keys():
            self._check_scales(name, stored[name], stored[f"{name}_scale_inv"])

    def shapes(self) -> Mapping[str, Shape]:
        """Name -> shape of every tensor, as if none were packed."""
        return self._shapes

    def read(self, name: str) -> Any:
        """A tensor."""
        read = self._checkpoint.read
        if name not in self.packed:
            return read(name)
        if name in self._checkpoint.shapes():
            return unpack_fp8(read(name), read(f"{name}_scale_inv"))
        # the file's rows are outputs; the unpacked checkpoints of this model store (in, out)
        return unpack_mxfp4(read(f"{name}_blocks"), read(f"{name}_scales")).transpose(-1, -2)

    def stored(self, name: str) -> Stored:
        """A tensor in the form that the file has: MXFP4 in the order that GGUF has, FP8 in float32."""
        import numpy as np

        from .stored import Stored

        stored = self._checkpoint.stored
        if name not in self.packed:
            return stored(name)
        if name in self._checkpoint.shapes():
            return Stored("F32", scaled_fp8(stored(name).array, stored(f"{name}_scale_inv").floats()))
        blocks, scales = stored(f"{name}_blocks").array, stored(f"{name}_scales").array
        nibbles = np.stack((blocks & 15, blocks >> 4), -1).reshape(*blocks.shape[:-1], 2, 16)
        packed = np.concatenate((scales[..., None], nibbles[..., 0, :] | nibbles[..., 1, :] << 4), -1)
        return Stored("MXFP4", packed.view(np.dtype((np.void, 17)))[..., 0], turned=True)

    def kind(self, name: str) -> str:
        """The kind of what is packed."""
        packed = name in self.packed and name not in self._checkpoint.shapes()
        return "MXFP4" if packed else self._checkpoint.kind(name)

    def _blocks_shape(self, shape: Shape, name: str) -> Shape:
        if len(shape) < 3 or shape[-1] != 16:
            raise InputError(f"{self.path}: {name}_blocks has the shape {shape}; MXFP4 has 16 bytes for each 32 values")
        return shape

    def _check_scales(self, name: str, shape: Shape, scales: Shape) -> None:
        needed = tuple(-(-size // BLOCK) for size in shape)
        if len(shape) != 2 or scales != needed:
            raise InputError(f"{self.path}: {name} {shape} needs scales {needed} for blocks of {BLOCK}, got {scales}")


def refuse_quantized(decoder: Decoder) -> None:
    """Formats that can be costed but not loaded are named."""
    config = decoder.config or {}
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        method = part.get("quantization_config")
        if isinstance(method, Mapping):
            name = method.get("quant_method", "an unnamed method")
            if name in SUPPORTED:
                continue
            raise InputError(
                f"{decoder.name} is quantized with {name}, which cannot be loaded: "
                "take the original checkpoint or a GGUF file (cost, show and compare work)"
            )


def unpack_fp8(values: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """(out, in) in E4M3 and (⌈out/128⌉, ⌈in/128⌉) scales -> (out, in) in float32."""
    rows, columns = values.shape
    spread = scales.float().repeat_interleave(BLOCK, 0)[:rows].repeat_interleave(BLOCK, 1)[:, :columns]
    return values.float() * spread


def unpack_mxfp4(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Bytes (…, rows, groups, 16), the low half of each first, and exponents (…, rows, groups) biased by 127 -> (…,
    rows, groups · 32) in float32."""
    import torch

    table = torch.tensor((*E2M1, *(-value for value in E2M1)))
    halves = torch.stack((blocks & 15, blocks >> 4), -1).flatten(-2)
    values = table[halves.int()]
    return torch.ldexp(values, scales.int()[..., None] - 127).flatten(-2)


def scaled_fp8(values: NDArray[np.uint8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """As `unpack_fp8`, of the bytes of E4M3 (Micikevicius et al. 2022, arXiv 2209.05433, table 1)."""
    import numpy as np

    byte = np.arange(256)
    exponent, mantissa = byte >> 3 & 15, byte & 7
    sizes = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    sizes[byte & 127 == 127] = np.nan
    table = np.where(byte < 128, sizes, -sizes).astype(np.float32)
    rows, columns = values.shape
    return table[values] * scales.repeat(BLOCK, 0)[:rows].repeat(BLOCK, 1)[:, :columns]
