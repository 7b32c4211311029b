"""Weights that lie in the processor's memory, where the device's is too small for all of them.

They are used where they lie, as llama.cpp does (`--n-cpu-moe`, `--n-gpu-layers`): a step reads them at that memory's
bandwidth, not the device's. Programs that copy them to the device for each step instead (vLLM, `--cpu-offload-gb`) are
bound by the bus between both: say its rate. What is computed there is taken to take no longer than reading it. State
stays on the device.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..errors import InputError
from .counting import Counted

DDR5 = 2 * 8 * 5600 * 10**6  # bytes per second: two channels of 8 bytes at 5,600 million transfers (JEDEC JESD79-5)


@dataclass(frozen=True)
class Offload:
    """The experts, or all weights, of some layers.

    Args:
        kind: what of a layer lies there.
        layers: of how many, the first ones; None for all.
        bandwidth: bytes per second that a step reads them at.
    """

    kind: Literal["experts", "layers"]
    layers: int | None = None
    bandwidth: float = DDR5

    def __post_init__(self) -> None:
        if type(self.bandwidth) not in (int, float) or not 0 < self.bandwidth < float("inf"):
            raise InputError(f"the bandwidth of the processor's memory must be above 0, got {self.bandwidth!r}")

    @classmethod
    def named(cls, text: str, bandwidth: float | None = None) -> Offload:
        """The one that "experts", "layers", or "experts:20" says. Raises InputError for others."""
        match = re.fullmatch(r"(experts|layers)(?::([1-9][0-9]{0,5}))?", text)
        if not match:
            raise InputError(f"{text!r} is not experts, layers, or so many layers of them, as experts:20")
        kind: Literal["experts", "layers"] = "experts" if match[1] == "experts" else "layers"
        return cls(kind, int(match[2]) if match[2] else None, DDR5 if bandwidth is None else bandwidth)

    def holds(self, weight: Counted) -> bool:
        """Whether a weight lies there."""
        group, _, rest = weight.node.path.partition(".")
        number = rest.partition(".")[0]
        if group != "layers" or not number.isdigit():
            return False
        return (self.layers is None or int(number) < self.layers) and (self.kind == "layers" or weight.copies > 1)
