"""The packed formats of weights, and which of them a file's tensor becomes."""

from __future__ import annotations

from typing import Literal, get_args

from ..errors import InputError

Weights = Literal["as-is", "f32", "bf16", "q8", "q4"]
Format = Literal["f32", "f16", "bf16", "q8", "q4", "q4m", "q5", "q5m", "q4k", "q5k", "q6k", "mxfp4"]

FORMATS: tuple[Format, ...] = get_args(Format)  # in the order of cpp/formats.h, whose numbers they are

# Blocks of a file -> the format that holds them without loss: an `m` has a minimum beside the scale, a `k` has its
# scales in 6 bits, by super-blocks of 256.
OWN: dict[str, Format] = {
    "F32": "f32",
    "F16": "f16",
    "BF16": "bf16",
    "F8_E4M3": "bf16",
    "Q8_0": "q8",
    "Q4_0": "q4",
    "Q4_1": "q4m",
    "Q5_0": "q5",
    "Q5_1": "q5m",
    "Q4_K": "q4k",
    "Q5_K": "q5k",
    "Q6_K": "q6k",
    "MXFP4": "mxfp4",
}
FROM_FLOATS = FORMATS[: FORMATS.index("q4m") + 1]  # into the others only blocks of their own kind are packed
FOUR_BITS = ("q4", "q4m", "q4k", "mxfp4")


def checked(weights: str) -> Weights:
    """The option. Raises InputError for others."""
    if weights not in get_args(Weights):
        raise InputError(f"weights={weights!r} is not one of {', '.join(get_args(Weights))}")
    return weights  # type: ignore[return-value]


def format_for(weights: Weights, kind: str, role: str) -> Format:
    """The format of a matrix.

    Args:
        weights: what the user asks for.
        kind: how the file has it.
        role: "matmul"; "head" or "table", whose errors every token feels, so that 4 bits are 8 there, as in llama.cpp's
            files; "router", whose small matrices choose, and stay as exact as they are; "changed", whose rows are not
            the file's.
    """
    own = OWN.get(kind, "q8")  # of kinds without a form of their own, unpacked and packed again
    if role == "changed" and own not in FROM_FLOATS:
        own = "q8"
    if role == "router":
        return "f32"
    if weights == "as-is":
        return own
    if weights != "q4":
        return weights
    if role in ("head", "table"):
        return "q8"
    return own if own in FOUR_BITS else "q4m"
