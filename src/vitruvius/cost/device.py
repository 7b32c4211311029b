"""One device: what it can compute, move and hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import InputError

WIDER = {  # where a device has no units for a dtype, the factors are widened to the next
    "fp4": "fp8",
    "fp8": "bf16",
    "int4": "int8",
    "int8": "bf16",
    "bf16": "tf32",
    "tf32": "f32",
}
SPELLINGS = {"fp32": "f32", "float32": "f32", "bfloat16": "bf16", "f16": "bf16", "fp16": "bf16", "float16": "bf16"}
SPELLINGS |= {"float8": "fp8"}
THIS_MACHINE = "this-machine"


@dataclass(frozen=True)
class Device:
    """One accelerator, or a machine's processors taken as one.

    Args:
        kind: "gpu", "soc" (memory shared with the processor) or "cpu".
        peaks: operations per second by dtype, a multiply-add counted as two; see the module.
        bandwidth: of its memory, bytes per second.
        capacity: of its memory, bytes.
        link: bytes per second in one direction between it and the others of its node, None where there is no other.
        network: bytes per second in one direction between nodes, each device's share; None as above.
        sources: the sheet that each field was read from.
        unconfirmed: fields whose sheet was not read ("peaks.fp8" for one of several).
        price: of an hour, in dollars; only what a user's file says.
    """

    name: str
    title: str
    vendor: str
    kind: str
    peaks: Mapping[str, float]
    bandwidth: float
    capacity: int
    link: float | None = None
    network: float | None = None
    devices_per_node: int = 1
    sources: Mapping[str, str] = field(default_factory=dict)
    unconfirmed: tuple[str, ...] = ()
    price: float | None = None

    def peak(self, dtype: str) -> tuple[float, str]:
        """Operations per second on factors of `dtype`, and the dtype that they really have there: a device without
        units for it widens them."""
        dtype = SPELLINGS.get(dtype, dtype)
        while dtype not in self.peaks and dtype in WIDER:
            dtype = WIDER[dtype]
        if dtype not in self.peaks:
            raise InputError(f"device {self.name!r} says nothing of {dtype}; it has {', '.join(self.peaks)}")
        return self.peaks[dtype], dtype
