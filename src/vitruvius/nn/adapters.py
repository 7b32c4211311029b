"""Adapters: what is learned beside frozen matrices (LoRA, Hu et al. 2021, arXiv 2106.09685), which may be kept in four
bits (QLoRA, Dettmers et al. 2023, arXiv 2305.14314).

A matrix with an adapter keeps its canonical name, so everything that reads a model's weights still finds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from .ops import Groups, grouped_linear
from .ops.grouped import grouped_product
from .twin import GroupedLinear

BLOCK = 64  # weights that share a scale: QLoRA, section 3


class Adapted(nn.Module):
    """W x + bias + scale · B (A x), with W and the bias frozen; stacked experts have an A and a B each.

    Args:
        layer: whose weight and bias it takes over.
        rank: of A (…, rank, in) and B (…, out, rank).
        scale: α / rank.
        dropout: of what A reads, while it trains.
        generator: of A's first numbers; B begins at zero, so the model begins as it is.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        layer: nn.Linear | GroupedLinear,
        rank: int,
        scale: float,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        *copies, out, into = layer.weight.shape
        device, kind = layer.weight.device, torch.promote_types(layer.weight.dtype, torch.float32)
        first = torch.empty(*copies, rank, into).uniform_(-1, 1, generator=generator) / into**0.5  # as nn.Linear's
        self.register_parameter("weight", layer.get_parameter("weight"))
        self.register_parameter("bias", layer.bias)
        self.requires_grad_(False)
        self.lora_a = nn.Parameter(first.to(device, kind))
        self.lora_b = nn.Parameter(torch.zeros(*copies, out, rank, device=device, dtype=kind))
        self.scale, self.dropout = scale, dropout
        self.shape, self.dtype = layer.weight.shape, layer.weight.dtype
        self.register_buffer("packed", None)
        self.register_buffer("scales", None)

    @property
    def rank(self) -> int:
        """Of the adapter."""
        return self.lora_a.shape[-2]

    def forward(self, x: Tensor, *groups: Groups) -> Tensor:
        """(…, in) -> (…, out); of experts (rows, in), with whose rows they are."""
        y = self.frozen(x, *groups)
        h = F.dropout(x, self.dropout, self.training) if self.dropout else x
        h = h.to(self.lora_a.dtype)
        if groups:
            added = grouped_linear(grouped_linear(h, self.lora_a, None, *groups), self.lora_b, None, *groups)
        else:
            added = F.linear(F.linear(h, self.lora_a), self.lora_b)
        return y + (self.scale * added).to(y.dtype)

    def frozen(self, x: Tensor, *groups: Groups) -> Tensor:
        """The layer without its adapter."""
        if self.weight is not None:
            return grouped_linear(x, self.weight, self.bias, *groups) if groups else F.linear(x, self.weight, self.bias)
        ends = groups[0].ends if groups else None
        y: Tensor = _FrozenProduct.apply(x, self.packed, self.scales, self.shape, ends)
        if self.bias is None:
            return y
        if ends is None:
            return y + self.bias
        rows = torch.arange(len(x), dtype=torch.int32, device=x.device)
        return y + self.bias[torch.searchsorted(ends, rows, right=True)]

    @torch.no_grad()
    def quantize(self) -> None:
        """Keeps the frozen matrix in four bits from now on."""
        if self.weight is not None:
            self.packed, self.scales = packed(self.weight)
            self.weight = None

    @torch.no_grad()
    def merged(self) -> nn.Linear | GroupedLinear:
        """The plain layer that computes the same: W + scale · B A."""
        kept = self.weight
        whole = unpacked(self.packed, self.scales, self.shape, self.dtype) if kept is None else kept
        whole = (whole.float() + self.scale * (self.lora_b.float() @ self.lora_a.float())).to(self.dtype)
        *copies, out, into = self.shape
        with torch.device("meta"):
            layer: nn.Linear | GroupedLinear = (
                GroupedLinear(tuple(copies), into, out, self.bias is not None)
                if copies
                else nn.Linear(into, out, self.bias is not None)
            )
        layer.weight = nn.Parameter(whole)
        if self.bias is not None:
            layer.bias = nn.Parameter(self.bias)
        return layer


def adapters(model: nn.Module) -> dict[str, Adapted]:
    """Canonical path of a matrix -> its adapter."""
    return {path: module for path, module in model.named_modules() if isinstance(module, Adapted)}


def adaptable(model: nn.Module) -> dict[str, nn.Linear | GroupedLinear]:
    """Canonical path -> the layers that can have an adapter: all matrices but routers' and the head's."""
    return {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear | GroupedLinear)}


def add_adapters(
    model: nn.Module,
    rank: int = 16,
    alpha: float | None = None,
    targets: Sequence[str] = ("*",),
    dropout: float = 0.0,
    quantize: bool = False,
    seed: int = 0,
) -> list[str]:
    """Gives matrices adapters, in place; all that the model had is frozen.

    Args:
        rank: of each. alpha: its scale is alpha / rank; 2 · rank if None.
        targets: patterns of canonical paths ("*.mixer.body.q", "layers.1.*").
        dropout: of what adapters read, while they train.
        quantize: whether the frozen matrices with an adapter are kept in four bits (QLoRA).

    Returns the paths. Raises InputError for values that cannot be, a pattern that fits nothing, and a model that has
    adapters already.
    """
    if type(rank) is not int or rank < 1:
        raise InputError(f"the rank of adapters must be a whole number from 1 on, got {rank!r}")
    if not 0.0 <= dropout < 1.0:
        raise InputError(f"the dropout of adapters must be at least 0 and below 1, got {dropout!r}")
    if adapters(model):
        raise InputError("the model has adapters already: merge them first")
    layers = adaptable(model)
    for target in targets:
        if not any(fnmatchcase(path, target) for path in layers):
            shown = ", ".join(sorted({path.rpartition(".")[2] for path in layers}))
            raise InputError(f"no matrix is called {target!r}: their names end in {shown}")
    model.requires_grad_(False)
    generator, scale = torch.Generator().manual_seed(seed), (2 * rank if alpha is None else alpha) / rank
    chosen = [path for path in layers if any(fnmatchcase(path, target) for target in targets)]
    for path in chosen:
        module = Adapted(layers[path], rank, scale, dropout, generator)
        if quantize:
            module.quantize()
        model.set_submodule(path, module)
    return chosen


def merge_adapters(model: nn.Module) -> None:
    """Adds adapters to their matrices, in place: a plain model remains, frozen as it was."""
    for path, module in adapters(model).items():
        layer = module.merged()
        model.set_submodule(path, layer.requires_grad_(False))


# ------------------------------------------------------------------ four bits


class _FrozenProduct(torch.autograd.Function):
    """x Wᵀ with W in four bits, of which only the packed form is kept for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Tensor, scales: Tensor, shape: torch.Size, ends: Tensor | None) -> Tensor:
        ctx.save_for_backward(packed, scales, ends)
        ctx.shape = shape
        weight = unpacked(packed, scales, shape, x.dtype)
        return F.linear(x, weight) if ends is None else grouped_product(x, weight, ends)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        packed, scales, ends = ctx.saved_tensors
        weight = unpacked(packed, scales, ctx.shape, grad.dtype)
        into = grad @ weight if ends is None else grouped_product(grad.contiguous(), weight.mT.contiguous(), ends)
        return into, None, None, None, None


@cache
def normal_floats() -> tuple[float, ...]:
    """The 16 values of NF4: 0, 1, −1, and between them quantiles of a normal distribution, more of them above zero
    (QLoRA, section 3 and appendix E)."""
    normal, outer = NormalDist(), 0.5 * ((1 - 1 / 32) + (1 - 1 / 30))  # the mean of two ways to leave out the tails

    def quantiles(count: int) -> list[float]:
        return [normal.inv_cdf(outer + (0.5 - outer) * i / count) for i in range(count)]

    values = sorted([*(-x for x in quantiles(7)), 0.0, *quantiles(8)])
    return tuple(value / values[-1] for value in values)


def packed(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A tensor in NF4: two values a byte, and a scale for each 64, in float32."""
    flat = weight.float().flatten()
    blocks = F.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(1)
    levels = torch.tensor(normal_floats(), device=weight.device)
    middles = (levels[1:] + levels[:-1]) / 2
    codes = torch.bucketize(blocks / scales.clamp(min=1e-30)[:, None], middles).to(torch.uint8)
    return codes[:, ::2] << 4 | codes[:, 1::2], scales


def unpacked(packed: Tensor, scales: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """`packed` backwards, up to what was rounded."""
    levels = torch.tensor(normal_floats(), device=packed.device)
    codes = torch.stack((packed >> 4, packed & 15), -1).flatten(1).int()
    return (levels[codes] * scales[:, None]).flatten()[: shape.numel()].view(shape).to(dtype)
