"""Linear layers of experts, over rows that are grouped by expert.

The fast form is one operator of PyTorch's library with shapes that do not depend on the routing, so that a compiled
model is one graph and a GPU is never waited for. Inside it, one grouped product where there is a kernel for it, else a
product for each expert that has rows. Its own backward writes the gradient of the stacked weights once; through a loop
over `weight[e]` every expert would add a gradient of the size of them all (64 experts of 512 × 256, 512 rows: 20 ms
against 3.0 s on one core, torch 2.13, 2026-12).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from .choice import is_naive


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows that are grouped by expert: expert e has those from ends[e − 1] (0 for the first) to ends[e] − 1.

    Args:
        ends: (E,) int32.
    """

    ends: Tensor

    @classmethod
    def of(cls, experts: Tensor, count: int) -> Groups:
        """The groups of sorted experts (rows,)."""
        every = torch.arange(count, device=experts.device)
        return cls(torch.searchsorted(experts, every, right=True, out_int32=True))

    @cached_property
    def spans(self) -> list[tuple[int, int, int]]:
        """The experts that have rows, with the first and the last row + 1: numbers, for which a GPU must be waited."""
        return [(e, a, b) for e, (a, b) in enumerate(pairwise([0, *self.ends.tolist()])) if a < b]


def naive_grouped_linear(x: Tensor, weight: Tensor, bias: Tensor | None, groups: Groups) -> Tensor:
    """Each row through its expert's layer; only the experts that have rows are read.

    Args:
        x: (rows, in), grouped by expert.
        weight: (E, out, in). bias: (E, out) or None.
        groups: whose rows they are.

    Returns (rows, out).
    """
    parts = [F.linear(x[a:b], weight[e], None if bias is None else bias[e]) for e, a, b in groups.spans]
    return torch.cat(parts)


def fast_grouped_linear(x: Tensor, weight: Tensor, bias: Tensor | None, groups: Groups) -> Tensor:
    """As `naive_grouped_linear`, as one operator."""
    plain = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    if plain and x.device.type == "cpu" and not fits(x, weight, len(weight)):
        return naive_grouped_linear(x, weight, bias, groups)
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    y = grouped_product(x, weight, groups.ends)
    if bias is None:
        return y
    rows = torch.arange(len(x), dtype=torch.int32, device=x.device)
    return y + F.embedding(torch.searchsorted(groups.ends, rows, right=True), bias)


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor | None, groups: Groups) -> Tensor:
    """As `naive_grouped_linear`, in the form that is asked for."""
    return (naive_grouped_linear if is_naive() else fast_grouped_linear)(x, weight, bias, groups)


@torch.library.custom_op("vitruvius::grouped_product", mutates_args=())
def grouped_product(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """x (rows, in), weight (E, out, in) -> (rows, out): each row times its expert's matrix."""
    if fits(x, weight, len(weight)):
        return F.grouped_mm(x, weight.mT, offs=ends)
    return naive_grouped_linear(x, weight, None, Groups(ends))


@torch.library.custom_op("vitruvius::grouped_outer", mutates_args=())
def grouped_outer(y: Tensor, x: Tensor, ends: Tensor) -> Tensor:
    """y (rows, out), x (rows, in) -> (E, out, in): Σ y ⊗ x over each expert's rows."""
    if fits(y, x, len(ends)):
        return F.grouped_mm(y.mT, x, offs=ends)
    sums = x.new_zeros(len(ends), y.shape[1], x.shape[1])
    for e, a, b in Groups(ends).spans:
        torch.mm(y[a:b].T, x[a:b], out=sums[e])
    return sums


def fits(a: Tensor, b: Tensor, experts: int) -> bool:
    """Whether the grouped product of PyTorch takes these tensors, and is not slower.

    On a CPU in float32 it is as fast as a loop over the experts or up to a fifth faster, but it visits those without
    rows too: with 512 experts and 10 rows it takes 1.2 ms against 0.2; in bfloat16 it is far slower (torch 2.13,
    2026-12). Elsewhere it is the form that does not wait for the device.
    """
    if a.dtype == torch.float64 or (a.device.type == "cpu" and (a.dtype != torch.float32 or len(a) < experts)):
        return False
    return all(t.data_ptr() % 16 == 0 and _strides_fit(t) for t in (a, b))


def _strides_fit(t: Tensor) -> bool:
    """One of the last two dimensions is dense, and the other's steps are whole 16 bytes."""
    rows, columns = t.stride()[-2:]
    return min(rows, columns) == 1 and max(rows, columns) * t.element_size() % 16 == 0


@grouped_product.register_fake
def _(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[1])


@grouped_outer.register_fake
def _(y: Tensor, x: Tensor, ends: Tensor) -> Tensor:
    return x.new_empty(ends.shape[0], y.shape[1], x.shape[1])


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    x, weight, ends = ctx.saved_tensors
    grad = grad.contiguous()  # that of a sum is expanded
    into = grouped_product(grad, weight.mT, ends) if ctx.needs_input_grad[0] else None
    return into, grouped_outer(grad, x, ends) if ctx.needs_input_grad[1] else None, None


grouped_product.register_autograd(_backward, setup_context=_save)


@register_flop_formula(torch.ops.vitruvius.grouped_product)
def _product_flops(x: Any, weight: Any, *_: Any, **__: Any) -> int:
    return 2 * x[0] * x[1] * weight[1]


@register_flop_formula(torch.ops.vitruvius.grouped_outer)
def _outer_flops(y: Any, x: Any, *_: Any, **__: Any) -> int:
    return 2 * y[0] * y[1] * x[1]
