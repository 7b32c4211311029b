"""Names of number formats, and how many bits one number takes."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from ..errors import InputError

# bits of one element; the longer names are PyTorch's
DTYPES: Mapping[str, int] = {
    **dict.fromkeys(("f32", "fp32", "float32"), 32),
    **dict.fromkeys(("bf16", "bfloat16", "f16", "fp16", "float16"), 16),
    **dict.fromkeys(("fp8", "float8", "fp8_e4m3", "fp8_e5m2", "int8"), 8),
    **dict.fromkeys(("fp4", "int4"), 4),
}


def bits(dtype: str) -> int:
    """Bits of one element. Raises InputError for a dtype that is not known."""
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not known: it is one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def stored(elements: int | Fraction, dtype: str) -> int:
    """Bytes of `elements` numbers, one after the other; of a fraction, an average, rounded up."""
    return -(-elements * bits(dtype) // 8)
