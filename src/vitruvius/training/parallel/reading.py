"""How a module reads weights of which its device holds a part.

Processes of one tensor group compute the same loss, each a copy. What is computed here is the gradient of the mean of
the copies: sums over the group (`summed`) are sums backward too, since each part of a sum reaches every copy; a weight
that is cut then has a gradient for all copies, of which the mean is its share; one that is whole has on each device a
part of the gradient, and their mean is taken. So no loss, and no code that is not about weights, knows of the group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ...sharding import Replicate, Shard

Reader = Callable[[Tensor], Tensor]


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        dist.all_reduce(x := x.contiguous().clone(), group=group)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        dist.all_reduce(grad := grad.contiguous().clone(), group=ctx.group)
        return grad, None


def summed(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """The sum over a group, and backward too."""
    found: Tensor = _Summed.apply(x, group)
    return found


class _Averaged(torch.autograd.Function):
    """As it is; backward the mean over a group, of which each has a part or (`apart`) all that concerns it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup, apart: bool) -> Tensor:
        ctx.group, ctx.apart = group, apart
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        grad = grad / ctx.group.size()
        if not ctx.apart:
            dist.all_reduce(grad, group=ctx.group)
        return grad, None, None


def local(parameter: Tensor) -> Tensor:
    """What this device holds of a weight."""
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def of_part(group: dist.ProcessGroup) -> Reader:
    """Reads a weight of which each device holds its own part."""

    def read(parameter: Tensor) -> Tensor:
        found: Tensor = _Averaged.apply(local(parameter), group, True)
        return found

    return read


def of_whole(group: dist.ProcessGroup, cut: Shard | Replicate = Replicate(), once: bool = False) -> Reader:  # noqa: B008
    """Reads a weight that every device holds whole: all of it, or its part of each segment.

    Args:
        once: whether only one device's counts, as of a bias that is added to parts of a sum.
    """
    rank, devices = dist.get_rank(group), group.size()

    def read(parameter: Tensor) -> Tensor:
        found: Tensor = _Averaged.apply(local(parameter), group, False)
        if once:
            return found * float(rank == 0)
        return part_of(found, cut, rank, devices)

    return read


def part_of(whole: Tensor, cut: Shard | Replicate, rank: int, devices: int) -> Tensor:
    """What device `rank` uses of a weight: its part of each segment. Parts that are fewer than devices are copied."""
    if isinstance(cut, Replicate):
        return whole
    segments = whole.split([size for size, _ in cut.segments], cut.dim)
    own = [
        segment if n == 1 else segment.chunk(n, cut.dim)[rank * n // devices]
        for segment, (_, n) in zip(segments, cut.segments, strict=True)
    ]
    return torch.cat(own, cut.dim) if len(own) > 1 else own[0]


def read_through(module: nn.Module, readers: dict[str, Reader]) -> None:
    """Lets a module's own weights be read through functions: `module.weight` is what the function makes of the
    parameter. The parameter keeps its name, and optimisers and checkpoints find it as it is; so does FSDP, whose
    parameters lie on a mesh of several dimensions except while a module computes."""

    def attribute(name: str) -> property:
        def read(self: nn.Module) -> Tensor:
            parameter = self._parameters[name]
            assert parameter is not None
            at_rest = isinstance(parameter, DTensor) and parameter.device_mesh.ndim > 1
            return parameter if at_rest else readers[name](parameter)

        return property(read)

    old = type(module)
    module.__class__ = type(old.__name__, (old,), {name: attribute(name) for name in readers})
