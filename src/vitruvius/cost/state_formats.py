"""Formats that keys and values are stored in, scales and all.

    q8_0, q5_1, q5_0, q4_1, q4_0, iq4_nl
                        llama.cpp's blocks of 32 along a head (ggml-common.h)
    nvfp4               4-bit floats, an FP8 scale for each 16 (vLLM, v1/attention/backends/flashinfer.py)
    fp8_per_token_head, int8_per_token_head
                        8 bits, a float32 scale for each token and head (vLLM, v1/kv_cache_interface.py)
    fp8_ds_mla          a latent in FP8 with a float32 scale for each 128, its rotary key in bf16: 656 bytes of 512 + 64
                        (vLLM, v1/kv_cache_interface.py, `MLAAttentionSpec`); FP8 elsewhere

and the plain ones of `dtypes`. "k=q8_0,v=q4_0" stores keys and values apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from ..errors import InputError
from ..spec import Spec, StateEntry
from .dtypes import DTYPES, bits

VALUES = "v"  # what nouns call the entry of values; all others are keys
DS_MLA, SCALED = "fp8_ds_mla", 128  # channels of a latent that share a scale


@dataclass(frozen=True)
class StateFormat:
    """Bits of an element, and of the scales that each `block` of a head's channels has; None is all of them."""

    element: int
    block: int | None
    scale: int


FORMATS: Mapping[str, StateFormat] = {
    "q8_0": StateFormat(8, 32, 16),
    "q5_1": StateFormat(5, 32, 32),
    "q5_0": StateFormat(5, 32, 16),
    "q4_1": StateFormat(4, 32, 32),
    "q4_0": StateFormat(4, 32, 16),
    "iq4_nl": StateFormat(4, 32, 16),
    "nvfp4": StateFormat(4, 16, 8),
    "fp8_per_token_head": StateFormat(8, None, 32),
    "int8_per_token_head": StateFormat(8, None, 32),
}
NAMES = (*DTYPES, *FORMATS, DS_MLA)


def of_keys_and_values(state: str) -> tuple[str, str]:
    """The formats of keys and of values. Raises InputError for what is none."""
    known = state.casefold()
    pair = (known, known)
    if "=" in known:
        given = dict(part.partition("=")[::2] for part in known.replace(" ", "").split(","))
        if given.keys() != {"k", "v"}:
            raise InputError(f"the state's format {state!r} is not k=…,v=… such as k=q8_0,v=q4_0")
        pair = (given["k"], given["v"])
    for name in pair:
        if name not in NAMES:
            raise InputError(f"dtype {name!r} of the state is not known: it is one of {', '.join(NAMES)}")
    return pair


def is_plain(state: str) -> bool:
    """Whether all numbers take as many bits, whatever they are."""
    return state in DTYPES


def recurrent(state: str) -> str:
    """The dtype of recurrent memories, which no engine keeps in blocks: the state's own, where it is a plain one."""
    keys, _ = of_keys_and_values(state)
    return keys if is_plain(keys) else "bf16"


def entry_bits(name: str, width: int, state: str) -> Fraction:
    """Bits of an element of the entry `name`, whose rows are `width` channels, its share of the scales included."""
    keys, values = of_keys_and_values(state)
    form = values if name == VALUES else keys
    if form == DS_MLA:
        return Fraction(8) + Fraction(32 * -(-width // SCALED), width) if name == "latent" else Fraction(_ds(name))
    if is_plain(form):
        return Fraction(bits(form))
    packed = FORMATS[form]
    blocks = -(-width // (packed.block or width))
    whole = blocks * (packed.block or width) if packed.block else width
    return Fraction(whole * packed.element + blocks * packed.scale, width)


def _ds(name: str) -> int:
    return 16 if name == "key" else 8


def named_bits(name: str, entry: StateEntry, state: str) -> Fraction:
    """Bits of an element of the entry of that name."""
    if entry.dtype or entry.stride is None:
        return Fraction(bits(entry.dtype or recurrent(state)))
    return entry_bits(name, entry.shape[-1], state)


def state_bits(spec: Spec, entry: StateEntry, state: str) -> Fraction:
    """Bits of an element of a part's entry; of entries that are alike, the mean."""
    if entry.dtype or entry.stride is None:
        return Fraction(bits(entry.dtype or recurrent(state)))
    names = [name for name, each in spec.state().items() if each == entry] or ["k", VALUES]
    return sum((entry_bits(name, entry.shape[-1], state) for name in names), Fraction(0)) / len(names)
