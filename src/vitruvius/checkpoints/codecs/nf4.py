"""bitsandbytes in 4 bits: NF4 and FP4 by a table, with the largest size of each block beside (QLoRA, arXiv 2305.14314,
section 3; bitsandbytes, functional.py).

Two values in a byte, the upper half first; `absmax` of each block, which may itself be 8-bit codes of blocks of 256
with a table and an offset (double quantisation). The rest is JSON in a tensor of bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from math import prod
from typing import Any

import numpy as np

from ..stored import Stored
from .packing import Files, Packing, floats

STATE = ".quant_state.bitsandbytes__"


def nf4(files: Files) -> Mapping[str, Packing]:
    """Matrices in 4 bits."""
    found = {}
    for state in files.shapes:
        name, mark, _ = state.partition(STATE)
        if mark and files.kind(name) == "U8":
            parts = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
            uses = (name, state, *files.there(*(f"{name}.{part}" for part in parts)))
            facts = _facts(files, state)
            shape = tuple(facts["shape"])
            if prod(shape) != 2 * prod(files.shapes[name]):
                raise files.wrong(name, f"does not hold {shape} in 4 bits")
            found[name] = Packing(uses, shape, "INT4", partial(_nf4, files, name, facts))
    return found


def _facts(files: Files, state: str) -> dict[str, Any]:
    try:
        facts = json.loads(files.raw(state).tobytes())
        sizes = [facts["blocksize"], *facts["shape"], facts.get("nested_blocksize", 1)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise files.wrong(state, "is not the JSON that bitsandbytes writes") from None
    if not all(type(size) is int and size > 0 for size in sizes):
        raise files.wrong(state, f"has sizes that are none: {sizes}")
    return dict(facts)


def _nf4(files: Files, name: str, facts: Mapping[str, Any]) -> Stored:
    packed, table = files.raw(name).reshape(-1), files.floats(f"{name}.quant_map")
    values = table[np.stack((packed >> 4, packed & 15), -1).reshape(-1)]
    if f"{name}.nested_absmax" in files.shapes:
        codes, nested = files.raw(f"{name}.absmax"), files.floats(f"{name}.nested_absmax")
        sizes = files.floats(f"{name}.nested_quant_map")[codes] * nested.repeat(facts["nested_blocksize"])[: len(codes)]
        sizes = sizes + np.float32(facts["nested_offset"])
    else:
        sizes = files.floats(f"{name}.absmax")
    return floats((values * sizes.repeat(facts["blocksize"])[: len(values)]).reshape(facts["shape"]))
