"""Matrices of FP8 and FP4 numbers beside their scales.

- FP8: E4M3 values with a float scale for each block (deepseek-ai/DeepSeek-V3, README_WEIGHTS.md), for each row
  (compressed-tensors "float-quantized", fbgemm_fp8), or for the whole matrix (Ministral 3, ModelOpt), in
  `NAME_scale_inv` or `NAME_scale`. Scales of static activations are not needed, as products are not done in FP8 here.
- NVFP4: E2M1 values, two in a byte, an E4M3 scale for each 16 along a row, and a float32 scale for the matrix, by which
  ModelOpt multiplies (`NAME_scale_2`) and compressed-tensors divides (`NAME_global_scale`).
- MXFP4: E2M1 values with one power of two for each 32 along a row, in `NAME_blocks` and `NAME_scales` (OCP
  Microscaling Formats 1.0; openai/gpt-oss, gpt_oss/torch/weights.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..stored import Stored
from .packing import Files, Packing, Shape, floats, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Floats = NDArray[np.float32]

BLOCK = 128  # rows and columns of a block, where the config does not say
GROUP = 16  # columns with one scale, in NVFP4


def _e4m3() -> Floats:
    """The values of the 256 bytes (Micikevicius et al. 2022, arXiv 2209.05433, table 1)."""
    byte = np.arange(256)
    exponent, mantissa = byte >> 3 & 15, byte & 7
    sizes = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    sizes[byte & 127 == 127] = np.nan
    return np.where(byte < 128, sizes, -sizes).astype(np.float32)


E4M3 = _e4m3()
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def fp8(files: Files) -> Mapping[str, Packing]:
    """E4M3 matrices; those without a scale are meant as they are."""
    found = {}
    for name in files.shapes:
        if files.kind(name) == "F8_E4M3" and not name.endswith("_scale"):
            scale, *_ = (*files.there(f"{name}_scale_inv", f"{name}_scale"), None)
            unpack = partial(_fp8, files, name, scale)
            found[name] = Packing((name, *([scale] if scale else [])), files.shapes[name], "F8_E4M3", unpack)
            if scale:
                _check_scale(files, name, scale)
    return found


def _check_scale(files: Files, name: str, scale: str) -> None:
    """Raises InputError where scales are neither for blocks, nor for rows, nor one for all."""
    shape, scales = files.shapes[name], files.shapes[scale]
    if len(shape) == 2:
        blocks = _blocks(files, shape)
        others = [(), (1,), (shape[0],), (shape[0], 1), *([] if scale.endswith("_inv") else [(1, 1)])]
        if scales != blocks and scales not in others:
            tall, wide = files.settings.get("weight_block_size") or (BLOCK, BLOCK)
            raise files.wrong(name, f"needs scales {blocks} for blocks of {tall} × {wide}, got {scales}")


def _blocks(files: Files, shape: Shape) -> Shape:
    sizes = files.settings.get("weight_block_size") or (BLOCK, BLOCK)
    return tuple(-(-n // size) for n, size in zip(shape, sizes, strict=True))


def _fp8(files: Files, name: str, scale: str | None) -> Stored:
    values = E4M3[files.raw(name)]
    if scale is None:
        return floats(values)
    scales, (rows, columns) = files.floats(scale), values.shape
    if scales.shape == _blocks(files, values.shape):
        tall, wide = files.settings.get("weight_block_size") or (BLOCK, BLOCK)
        return floats(values * scales.repeat(tall, 0)[:rows].repeat(wide, 1)[:, :columns])
    return floats(values * scales.reshape(-1, 1))  # one for each row, or one for all


def nvfp4(files: Files) -> Mapping[str, Packing]:
    """Both ways to store NVFP4."""
    found = {}
    for stem in files.ending("_packed"):
        if files.kind(f"{stem}_packed") == "U8" and files.kind(f"{stem}_scale") == "F8_E4M3":
            uses = (f"{stem}_packed", f"{stem}_scale", f"{stem}_global_scale")
            found[stem] = _fp4_packing(files, stem, uses, divided=True)
    for stem in files.ending("_scale_2"):
        if files.kind(stem) == "U8" and files.kind(f"{stem}_scale") == "F8_E4M3":
            found[stem] = _fp4_packing(files, stem, (stem, f"{stem}_scale", f"{stem}_scale_2"), divided=False)
    return found


def _fp4_packing(files: Files, stem: str, uses: tuple[str, str, str], divided: bool) -> Packing:
    packed, scale, whole = uses
    *more, half = files.shapes[packed]
    if whole not in files.shapes or files.shapes[scale] != (*more, half * 2 // GROUP) or half * 2 % GROUP:
        raise files.wrong(packed, f"needs {scale} for each {GROUP} values, and {whole}")
    return Packing(uses, (*more, half * 2), "INT4", partial(_nvfp4, files, uses, divided))


def _nvfp4(files: Files, uses: tuple[str, str, str], divided: bool) -> Stored:
    packed, scale, whole = uses
    values, factor = _pairs(files.raw(packed)), files.floats(whole).reshape(-1)[0]
    scales = E4M3[files.raw(scale)]
    scales = scales / factor if divided else scales * factor
    return floats(values * spread(scales, -1, values.shape[-1]))


def _pairs(packed: Bytes) -> Floats:
    """Two numbers in a byte, the lower half first."""
    return E2M1[np.stack((packed & 15, packed >> 4), -1).reshape(*packed.shape[:-1], -1)]


def mxfp4(files: Files) -> Mapping[str, Packing]:
    """gpt-oss's experts, in the blocks that GGUF has."""
    found = {}
    for name in files.ending("_blocks"):
        uses = (f"{name}_blocks", f"{name}_scales")
        shape = files.shapes[uses[0]]
        if uses[1] in files.shapes:
            if len(shape) < 3 or shape[-1] != 16:
                raise files.wrong(uses[0], "is no MXFP4, which has 16 bytes for each 32 values")
            *experts, rows, groups, half = shape
            found[name] = Packing(uses, (*experts, groups * half * 2, rows), "MXFP4", partial(_mxfp4, files, uses))
    return found


def _mxfp4(files: Files, uses: tuple[str, str]) -> Stored:
    blocks, scales = map(files.raw, uses)
    nibbles = np.stack((blocks & 15, blocks >> 4), -1).reshape(*blocks.shape[:-1], 2, 16)
    packed = np.concatenate((scales[..., None], nibbles[..., 0, :] | nibbles[..., 1, :] << 4), -1)
    # the file's rows are outputs; the unpacked checkpoints of this model store (in, out)
    return Stored("MXFP4", packed.view(np.dtype((np.void, 17)))[..., 0], turned=True)
