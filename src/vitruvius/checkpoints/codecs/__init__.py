"""Matrices that are stored in a few bits beside their scales, presented as ordinary tensors.

A codec finds its matrices by the names and dtypes of the tensors around them; config.json says what these cannot (bits,
groups). Unpacking loses the packed form, so a model that was loaded so is saved unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from ...errors import InputError
from ..files import settings
from ..stored import Container, Stored
from .integers import compressed, gptq, llm_int8, mlx
from .nf4 import nf4
from .packing import Codec, Files, Packing, Shape
from .small_floats import fp8, mxfp4, nvfp4

__all__ = ["Unpacked", "refuse_unknown"]

CODECS: tuple[Codec, ...] = (mxfp4, nvfp4, fp8, gptq, compressed, llm_int8, nf4, mlx)
# `quant_method` of formats that are read; "" is MLX's.
METHODS = ("", "fp8", "mxfp4", "fbgemm_fp8", "compressed-tensors", "gptq", "awq", "bitsandbytes", "modelopt")
# Of activations and of keys and values, which have no fixed scale here.
UNUSED: tuple[str, ...] = (
    *("*.input_scale", "*.activation_scale", "*.input_global_scale", "*.input_scale_ub", "*.output_scale"),
    *("*.k_scale", "*.v_scale", "*.q_scale", "*.prob_scale"),
)


class Unpacked:
    """A container with its packed matrices unpacked when they are read: to float32, or without loss to the blocks that
    GGUF has.

    Args:
        settings: what config.json says of the format, see `settings`.
    """

    def __init__(self, container: Container, settings: Mapping[str, Any] | None = None) -> None:
        self.path, self._container = container.path, container
        shapes = container.shapes()
        files = Files(container, settings or {}, shapes)
        self._packings: dict[str, Packing] = {}
        for codec in CODECS:
            self._packings |= codec(files)
        hidden = {name for packing in self._packings.values() for name in packing.uses} - self._packings.keys()
        if self._packings:
            hidden |= {name for name in shapes if any(fnmatchcase(name, pattern) for pattern in UNUSED)}
        plain = {name: shape for name, shape in shapes.items() if name not in hidden}
        self._shapes: dict[str, Shape] = plain | {name: packing.shape for name, packing in self._packings.items()}
        self.packed = frozenset(self._packings)

    def shapes(self) -> Mapping[str, Shape]:
        """Name -> shape of every tensor, as if none were packed."""
        return self._shapes

    def stored(self, name: str) -> Stored:
        """A tensor, unpacked."""
        packing = self._packings.get(name)
        return packing.unpack() if packing else self._container.stored(name)

    def nbytes(self, name: str) -> int:
        """Bytes that the file has for a matrix, scales and all."""
        packing = self._packings.get(name)
        return sum(map(self._container.nbytes, packing.uses if packing else (name,)))

    def kind(self, name: str) -> str:
        """The kind of what is unpacked; INT4, INT8 and F8_E4M3 come as float32."""
        packing = self._packings.get(name)
        return packing.kind if packing else self._container.kind(name)


def refuse_unknown(config: Mapping[str, Any], name: str) -> None:
    """Formats that can be costed but not loaded are named."""
    method = settings(config).get("quant_method", "")
    if method not in METHODS:
        raise InputError(
            f"{name} is quantized with {method}, which cannot be loaded: "
            "take the original checkpoint or a GGUF file (cost, show and compare work)"
        )
