"""Matrices of small integers beside their scales, w = scale · (q − zero) or w = scale · q + bias.

- GPTQ (AutoGPTQ/GPTQModel, `qweight` packed down the inputs, scales (groups, out), `g_idx` says the group of each
  input): arXiv 2210.17323. Files of the first format store zero − 1.
- AWQ (casper-hansen/AutoAWQ, awq/utils/packing_utils.py; eight outputs in a word, in the order 0 2 4 6 1 3 5 7): arXiv
  2306.00978.
- compressed-tensors (vllm-project/compressed-tensors): "pack-quantized" words along a row, with offset 2^(bits − 1),
  and "int-quantized" bytes.
- bitsandbytes LLM.int8(): bytes and the largest size of each row in `SCB`, which is 127 (arXiv 2208.07339).
- MLX (ml-explore/mlx, `quantize`): 2 to 8 bits in a stream along a row, lowest bits first; a scale and a bias a group.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..stored import Stored
from .packing import Files, Packing, floats, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int32]

WORD = 32  # bits
AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # where output i of eight stands in its word
SIGNED = 4  # bits of the integers that fit GGUF's blocks of 32


def fields(words: NDArray[Any], bits: int, axis: int) -> Integers:
    """The integers in words of 32 bits along an axis, the lowest bits first."""
    shifts = np.arange(0, WORD, bits, dtype=np.uint32)
    words = np.moveaxis(np.asarray(words).view(np.uint32), axis, -1)
    apart = (words[..., None] >> shifts) & np.uint32((1 << bits) - 1)
    return np.moveaxis(apart.reshape(*words.shape[:-1], -1), -1, axis).astype(np.int32)


def stream(words: NDArray[Any], bits: int) -> Integers:
    """The integers along a row of words as one stream of bits, the lowest first."""
    octets = np.ascontiguousarray(words).view(np.uint8)
    single = np.unpackbits(octets, axis=-1, bitorder="little").reshape(*octets.shape[:-1], -1, bits)
    return (single.astype(np.int32) << np.arange(bits, dtype=np.int32)).sum(-1, dtype=np.int32)


def gptq(files: Files) -> Mapping[str, Packing]:
    """GPTQ and AWQ, which have the same names."""
    found = {}
    for stem in files.ending(".qweight"):
        uses = files.there(*(f"{stem}.{part}" for part in ("qweight", "qzeros", "scales", "g_idx")))
        bits = files.size("bits", 4, among=(2, 4, 8))
        per = WORD // bits
        if not {f"{stem}.scales", f"{stem}.qzeros"} <= set(uses):
            raise files.wrong(f"{stem}.qweight", "needs scales and qzeros beside it")
        words, down = files.shapes[f"{stem}.qweight"], files.method != "awq"
        shape = (words[1], words[0] * per) if down else (words[1] * per, words[0])
        unpack = partial(_gptq if down else _awq, files, stem, bits)
        found[f"{stem}.weight"] = Packing(uses, shape, f"INT{bits}", unpack)
    return found


def _gptq(files: Files, stem: str, bits: int) -> Stored:
    values = fields(files.raw(f"{stem}.qweight"), bits, 0)  # (in, out)
    zeros = fields(files.raw(f"{stem}.qzeros"), bits, 1)
    if files.settings.get("checkpoint_format", "gptq") == "gptq":
        zeros = zeros + 1
    scales, inputs = files.floats(f"{stem}.scales"), len(values)
    group = files.raw(f"{stem}.g_idx") if f"{stem}.g_idx" in files.shapes else spread(np.arange(len(scales)), 0, inputs)
    if len(group) != inputs or not 0 <= int(group.min()) <= int(group.max()) < len(scales):
        raise files.wrong(f"{stem}.g_idx", f"must name one of {len(scales)} groups for each of {inputs} inputs")
    return floats((scales[group] * (values - zeros[group])).T)


def _awq(files: Files, stem: str, bits: int) -> Stored:
    if bits != SIGNED:
        raise files.wrong(f"{stem}.qweight", f"is AWQ of {bits} bits; there is one of 4 only")

    def outputs(name: str) -> Integers:
        words = fields(files.raw(f"{stem}.{name}"), bits, 1)
        return words.reshape(len(words), -1, 8)[..., AWQ_ORDER].reshape(len(words), -1)

    values, zeros, scales = outputs("qweight"), outputs("qzeros"), files.floats(f"{stem}.scales")
    return floats((spread(scales, 0, len(values)) * (values - spread(zeros, 0, len(values)))).T)


def compressed(files: Files) -> Mapping[str, Packing]:
    """compressed-tensors' integers."""
    found = {}
    for stem in files.ending("_packed"):
        if files.kind(f"{stem}_packed") == "I32":
            parts = ("packed", "scale", "zero_point", "g_idx", "shape")
            uses, (rows, words) = files.there(*(f"{stem}_{part}" for part in parts)), files.shapes[f"{stem}_packed"]
            if not {f"{stem}_scale", f"{stem}_shape"} <= set(uses):
                raise files.wrong(f"{stem}_packed", "needs its scale and shape beside it")
            shape = tuple(map(int, files.raw(f"{stem}_shape")))
            if len(shape) != 2 or shape[0] != rows or not shape[1]:
                raise files.wrong(f"{stem}_packed", f"does not hold a matrix {shape}")
            bits = next((bits for bits in (2, 4, 8) if -(-shape[1] * bits // WORD) == words), 0)
            if not bits:
                raise files.wrong(f"{stem}_packed", f"does not hold a matrix {shape} in 2, 4 or 8 bits")
            found[stem] = Packing(uses, shape, f"INT{bits}", partial(_packed_row, files, stem, bits, shape))
    for name in files.shapes:
        if files.kind(name) == "I8" and files.kind(f"{name}_scale") and len(files.shapes[name]) == 2:
            uses = files.there(name, f"{name}_scale", f"{name}_zero_point", f"{name}_shape", f"{name}_g_idx")
            found[name] = Packing(uses, files.shapes[name], "INT8", partial(_bytes_row, files, name))
    return found


def _packed_row(files: Files, stem: str, bits: int, shape: tuple[int, int]) -> Stored:
    values = fields(files.raw(f"{stem}_packed"), bits, 1)[:, : shape[1]] - (1 << bits - 1)
    zeros = None
    if f"{stem}_zero_point" in files.shapes:
        zeros = fields(files.raw(f"{stem}_zero_point"), bits, 0)[: shape[0]] - (1 << bits - 1)
    return _grouped(files, stem, values, zeros)


def _bytes_row(files: Files, name: str) -> Stored:
    zeros = files.raw(f"{name}_zero_point") if f"{name}_zero_point" in files.shapes else None
    return _grouped(files, name, files.raw(name).astype(np.int32), zeros)


def _grouped(files: Files, stem: str, values: Integers, zeros: NDArray[Any] | None) -> Stored:
    """scale · (q − zero), with scales (rows, groups) or one for all."""
    scales = files.floats(f"{stem}_scale").reshape(-1, files.shapes[f"{stem}_scale"][-1] if _two(files, stem) else 1)
    columns = values.shape[1]
    if f"{stem}_g_idx" in files.shapes and (order := files.raw(f"{stem}_g_idx")).min() >= 0:
        scales = scales[:, order]
        zeros = None if zeros is None else zeros[:, order]
    else:
        scales = spread(scales, 1, columns)
        zeros = None if zeros is None else spread(zeros.reshape(len(zeros), -1), 1, columns)
    return floats(scales * (values if zeros is None else values - zeros))


def _two(files: Files, stem: str) -> bool:
    return len(files.shapes[f"{stem}_scale"]) == 2


def llm_int8(files: Files) -> Mapping[str, Packing]:
    """bitsandbytes in 8 bits: w = q · SCB / 127."""
    found = {}
    for stem in files.ending(".SCB"):
        name = f"{stem}.weight"
        if files.kind(name) == "I8":
            uses = files.there(name, f"{stem}.SCB", f"{stem}.weight_format")
            found[name] = Packing(uses, files.shapes[name], "INT8", partial(_int8, files, stem))
    return found


def _int8(files: Files, stem: str) -> Stored:
    values, largest = files.raw(f"{stem}.weight").astype(np.float32), files.floats(f"{stem}.SCB")[:, None]
    return floats(values * largest * np.float32(1 / 127))  # in bitsandbytes' order, so that the last bit is its own


def mlx(files: Files) -> Mapping[str, Packing]:
    """MLX's affine groups: w = scale · q + bias."""
    found = {}
    for stem in files.ending(".scales"):
        name = f"{stem}.weight"
        if files.kind(name) in ("U32", "I32") and files.kind(f"{stem}.biases"):
            bits, group = (files.size(key, default) for key, default in (("bits", 4), ("group_size", 64)))
            own = files.settings.get(stem)
            if isinstance(own, Mapping):
                bits, group = own.get("bits", bits), own.get("group_size", group)
            *more, words = files.shapes[name]
            groups = files.shapes[f"{stem}.scales"][-1]
            if bits not in (2, 3, 4, 5, 6, 8) or words * WORD % bits or words * WORD // bits != groups * group:
                raise files.wrong(name, f"is no matrix of {bits} bits in {groups} groups of {group}")
            half = files.kind(f"{stem}.scales") == files.kind(f"{stem}.biases") == "F16" and group % 32 == 0
            kind = "Q4_1" if bits == SIGNED and half else f"INT{4 if bits <= SIGNED else 8}"
            uses = (name, f"{stem}.scales", f"{stem}.biases")
            found[name] = Packing(uses, (*more, words * WORD // bits), kind, partial(_mlx, files, stem, bits, kind))
    return found


def _mlx(files: Files, stem: str, bits: int, kind: str) -> Stored:
    values = stream(files.raw(f"{stem}.weight"), bits)
    columns = values.shape[-1]
    if kind == "Q4_1":  # GGUF's blocks hold the same numbers: float16 scale and minimum, 32 values
        scales, biases = (spread(files.raw(f"{stem}.{part}"), -1, columns // 32) for part in ("scales", "biases"))
        halves = values.reshape(*values.shape[:-1], -1, 2, 16).astype(np.uint8)
        nibbles = halves[..., 0, :] | halves[..., 1, :] << 4
        blocks = np.concatenate((_bytes_of(scales), _bytes_of(biases), nibbles), -1)
        return Stored("Q4_1", np.ascontiguousarray(blocks).view(np.dtype((np.void, 20)))[..., 0])
    scales, biases = (spread(files.floats(f"{stem}.{part}"), -1, columns) for part in ("scales", "biases"))
    return floats(scales * values + biases)


def _bytes_of(halves: NDArray[np.float16]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(halves)[..., None].view(np.uint8)
