"""The numbers that an untrained model starts from."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from .. import spec


@dataclass(frozen=True)
class Initial:
    """What a family says of its matrices, which all begin normal.

    Args:
        deviation: of them (`initializer_range` of a config.json).
        residual: whether those that write to the residual stream begin narrower, by 1/√(2 · layers), so that its
            variance does not grow with the depth (GPT-2, section 2.3).
    """

    deviation: float = 0.02
    residual: bool = False

    def draw(self, weight: spec.Weight, shape: tuple[int, ...], layers: int, generator: torch.Generator) -> Tensor:
        """A weight of a model of so many layers, with all its copies, in float32."""
        if weight.drawn is not None:
            return drawn(weight.drawn, shape, generator)
        if weight.initial is not None:
            return torch.full(shape, weight.initial)
        writes = [axis.name for axis in weight.dimensions[0]] == ["width"] and weight.role == "matmul"
        narrower = (2 * layers) ** -0.5 if self.residual and writes else 1.0
        return torch.empty(shape).normal_(0.0, self.deviation * narrower, generator=generator)


def drawn(how: spec.Drawn, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """See `spec.Drawn`."""
    if how.through == "log_steps":
        return torch.arange(1, shape[-1] + 1, dtype=torch.float32).log().expand(shape).contiguous()
    if how.through == "inverse_softplus":
        steps = torch.empty(shape).uniform_(log(how.low), log(how.high), generator=generator).exp()
        return steps + torch.log(-torch.expm1(-steps))  # softplus of it is `steps`
    uniform = torch.empty(shape).uniform_(how.low, how.high, generator=generator)
    return uniform.log() if how.through == "log" else uniform
