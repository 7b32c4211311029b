"""From a part of the spec to the module that computes it.

A module's weights and children are made from the spec's own answers, so the names and shapes are the spec's. What is
left for a twin to write is its equation: `forward`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from .. import spec
from ..spec import Spec, Weight
from ..spec.registry import Registry
from .ops import Groups, grouped_linear

TWINS: Registry[type[Spec], type[Twin[Any]]] = Registry("vitruvius.twins")

S = TypeVar("S", bound=Spec)
M = TypeVar("M", bound="type[Twin[Any]]")


def twin(kind: type[Spec]) -> Callable[[M], M]:
    """Registers the module that computes `kind`."""

    def register(module: M) -> M:
        TWINS[kind] = module
        return module

    return register


def make(spec: Spec, width: int, copies: tuple[int, ...] = ()) -> Twin[Any]:
    """The module of a part. Raises ValueError for a part that can be costed and drawn but not run yet."""
    module = TWINS.find(type(spec))
    if module is None:
        raise ValueError(f"running {type(spec).__name__} is not supported yet; cost, compare and draw work")
    return module(spec, width, copies)


@dataclass(frozen=True)
class Needs:
    """What parts of a model ask of every pass.

    Args:
        ropes: the kinds of rotary positions.
        masks: what queries see, as far as positions say, with the window of the keys.
        kept: the kinds of rotary positions of what is kept unrotated, with its window.
        ids: whether a part reads token ids, as its spec says.
    """

    ropes: tuple[spec.RoPE, ...] = ()
    masks: tuple[tuple[spec.Mask, int | None], ...] = ()
    kept: tuple[tuple[spec.RoPE, int | None], ...] = ()
    ids: bool = False

    @staticmethod
    def together(parts: Iterable[Needs]) -> Needs:
        """The needs of several parts, each once."""
        asked = zip(*((part.ropes, part.masks, part.kept) for part in parts), strict=True)
        ropes, masks, kept = (tuple(dict.fromkeys(chain(*each))) for each in asked)
        return Needs(ropes, masks, kept)


class GroupedLinear(nn.Module):
    """`copies` linear layers, one for each expert; the rows of an input are grouped by the layer they go through."""

    def __init__(self, copies: tuple[int, ...], into: int, out: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*copies, out, into))
        self.bias = nn.Parameter(torch.empty(*copies, out)) if bias else None

    def forward(self, x: Tensor, groups: Groups) -> Tensor:
        """x (rows, in), whose rows they are -> (rows, out)."""
        return grouped_linear(x, self.weight, self.bias, groups)


class Twin(nn.Module, Generic[S]):
    """The module of one part of the spec.

    A weight `q.weight` (and `q.bias`) becomes a linear layer `q`; any other a parameter or, where it is stored but not
    trained, a buffer of its own name. Children take the names of their slots.
    """

    path: str
    takes_call: ClassVar[bool] = False  # whether its forward takes the pass too: where tokens meet, or more is yielded

    def __init__(self, spec: S, width: int, copies: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.spec, self.width = spec, width
        self.path: str = ""  # the canonical name, given by the model
        weights = spec.weights(width)
        for name, weight in weights.items():
            layer, _, kind = name.rpartition(".")
            if not layer:
                self._own(name, weight, copies)
            elif kind == "weight":
                self._child(layer, _linear(weight, f"{layer}.bias" in weights, copies))
        for slot, part in spec.parts(width).items():
            stacked = copies if part.copies is None else (*copies, part.copies.size)
            self._child(slot, make(part.spec, part.width, stacked))

    def needs(self) -> Needs:
        """What it asks of every pass, without its children."""
        return Needs()

    def _own(self, name: str, weight: Weight, copies: tuple[int, ...]) -> None:
        value = torch.empty(*copies, *weight.shape)
        if weight.role in ("buffer", "constant"):
            self.register_buffer(name, value)
        else:
            self.register_parameter(name, nn.Parameter(value))

    def _child(self, slot: str, module: nn.Module) -> None:
        group, _, index = slot.partition(".")
        if not index:
            self.add_module(slot, module)
            return
        if group not in self._modules:
            self.add_module(group, nn.ModuleList())
        members = self.get_submodule(group)
        assert isinstance(members, nn.ModuleList)
        members.append(module)


def _linear(weight: Weight, bias: bool, copies: tuple[int, ...]) -> nn.Module:
    out, into = weight.shape
    return GroupedLinear(copies, into, out, bias) if copies else nn.Linear(into, out, bias)
