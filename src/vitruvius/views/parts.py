"""Each drawn part on its own: what it is, its equation and paper, its tensors, and its share of the whole.

The places are those that a drawing marks (`data-path`). A layer is drawn once for all of its kind; figures here are of
one such layer, shares of all of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

from ..cost.part import MTP
from ..spec import Decoder, Node, Spec, Weight, walk
from .description import shown
from .drawing.kinds import kinds
from .nouns import about, describe, title


@dataclass(frozen=True)
class NodeKind:
    """What a class of parts is: what its docstring says, and the papers named there."""

    about: str
    papers: tuple[str, ...]  # arXiv ids, in the order of the text


@dataclass(frozen=True)
class Tensor:
    """A stored tensor of one layer: `shape` with the stacked axes first, and what its axes are called."""

    name: str
    shape: tuple[int, ...]
    axes: str


@dataclass(frozen=True)
class DrawnPart:
    """One drawn part.

    Args:
        kind: its class, a key of the page's kinds; "" for a matrix or a number, which belongs to a part, and for what
            is drawn as a frame around parts.
        equation: what it computes, with its own terms.
        layers: how many layers are drawn as this one; 1 outside of layers.
        parameters: of one layer, with everything inside.
        share: of the model's parameters, over all layers; None for what stands apart (multi-token prediction).
        flops: of one layer for one token at the context asked for; `flops_share` over all layers.
    """

    title: str
    kind: str
    facts: tuple[str, ...]
    equation: str | None
    tensors: tuple[Tensor, ...]
    layers: int
    parameters: int
    share: float | None
    flops: int
    flops_share: float | None


def node_kind(noun: type[Spec]) -> NodeKind:
    """What there is to read about a class of parts, without its arguments."""
    text = about(noun)
    return NodeKind(text, tuple(dict.fromkeys(re.findall(r"\b\d{4}\.\d{5}\b", text))))


def drawn_parts(arch: Decoder, paths: Iterable[str], context: int) -> dict[str, DrawnPart]:
    """path -> what there is to say of it, for the paths that a drawing of `arch` marks. FLOPs are of decoding one
    token at position `context`."""
    tree = _Tree(arch, context)
    return {path: part for path in dict.fromkeys(paths) if (part := tree.part(path)) is not None}


class _Tree:
    """The nodes of an architecture by path, with the parameters and FLOPs below each path."""

    def __init__(self, arch: Decoder, context: int) -> None:
        self.arch = arch
        self.nodes: dict[str, Node] = {}
        self.parameters: Counter[str] = Counter()
        self.flops: Counter[str] = Counter()
        for node in walk(arch, arch.width):
            self.nodes[node.path] = node
            self._count(node, context)
        self.layers = {f"layers.{kind.indices[0]}": len(kind.indices) for kind in kinds(arch)}
        if arch.encoder:
            self.layers |= {f"encoder.layers.{kind.indices[0]}": len(kind.indices) for kind in kinds(arch.encoder)}

    def _count(self, node: Node, context: int) -> None:
        encoder_side = any(spec.encoder_side for spec in (*node.above, node.spec))
        apart = node.path.startswith(MTP)
        for name, weight, shape in node.weights():
            if weight.role != "constant":
                used = weight.role == "matmul" and not encoder_side
                flops = round(2 * prod(shape) * node.uses * weight.uses) if used else 0
                self._add(name, prod(shape), flops, apart)
        if work := 0 if encoder_side else node.spec.flops(context):
            self._add(node.path, 0, work, apart)

    def _add(self, path: str, parameters: int, flops: int, apart: bool) -> None:
        """Counts for the path and everything above it; multi-token prediction is in no figure but its own."""
        steps = path.split(".")
        for end in range(1 if apart else 0, len(steps) + 1):
            above = ".".join(steps[:end])
            self.parameters[above] += parameters
            self.flops[above] += flops

    def part(self, path: str) -> DrawnPart | None:
        """What there is to say of a drawn place; None for one that is nothing by itself ("context")."""
        node, rest = self._nearest(path)
        value, inside_root = _value(node.spec, rest), not node.path
        if isinstance(value, Spec) and path:
            own = describe(value)
            kind, tensors = ("", ()) if own.picture.frame else (type(value).__name__, self._inside(path))
            return self._figures(path, own.title, kind, tuple(own.facts), own.equation, tensors)
        if tensors := self._inside(path) if rest and not inside_root else ():
            name = f"{rest.removesuffix('.weight')} of {title(node.spec)}"
            return self._figures(path, name, "", (), _product(node, rest), tensors)
        if rest and value is not _NOTHING and not isinstance(value, tuple):
            label = describe(node.spec).names.get(rest, rest.rpartition(".")[2].replace("_", " "))
            label = label if isinstance(label, str) else label[0]
            if inside_root:
                return self._figures(path, label, "", (shown(value),), None)
            own, kind = describe(node.spec), type(node.spec).__name__
            return self._figures(path, own.title, kind, (f"{label}: {shown(value)}",), own.equation)
        return None

    def _nearest(self, path: str) -> tuple[Node, str]:
        """The node at the path or the nearest above it, and the rest of the path."""
        steps = path.split(".")
        for end in range(len(steps), -1, -1):
            above = ".".join(steps[:end])
            if above in self.nodes:
                return self.nodes[above], ".".join(steps[end:])
        raise AssertionError("the root is a node")

    def _inside(self, path: str) -> tuple[Tensor, ...]:
        """The tensors at the path and inside what stands there, named from the path on."""
        return tuple(
            Tensor(name.removeprefix(path).removeprefix("."), shape, _axes(weight, node))
            for node in self.nodes.values()
            if f"{node.path}.".startswith(f"{path}.") or f"{path}.".startswith(f"{node.path}.")
            for name, weight, shape in node.weights()
            if f"{name}.".startswith(f"{path}.") and weight.role != "constant"
        )

    def _figures(
        self,
        path: str,
        name: str,
        kind: str,
        facts: tuple[str, ...],
        equation: str | None,
        tensors: tuple[Tensor, ...] = (),
    ) -> DrawnPart:
        layers = next((n for above, n in self.layers.items() if f"{path}.".startswith(f"{above}.")), 1)
        parameters, flops = self.parameters[path], self.flops[path]
        apart = path.startswith(MTP)
        share, flops_share = (
            None if apart or not whole[""] else round(layers * whole[path] / whole[""], 6)
            for whole in (self.parameters, self.flops)
        )
        return DrawnPart(name, kind, facts, equation, tensors, layers, parameters, share, flops, flops_share)


_NOTHING = object()


def _value(spec: Spec, rest: str) -> Any:
    """What stands under a dotted name, `_NOTHING` if that is no field."""
    value: Any = spec
    for step in filter(None, rest.split(".")):
        value = getattr(value, step, _NOTHING)
    return value


def _product(node: Node, rest: str) -> str:
    """A projection as an equation: y = x Wᵀ, with its bias where it has one."""
    bias = f"{rest.removesuffix('.weight')}.bias" in node.spec.weights(node.width)
    return "y = x Wᵀ + b" if bias else "y = x Wᵀ"


def _axes(weight: Weight, node: Node) -> str:
    """What the axes are called, outermost first: "experts × hidden × width"."""
    named = [" + ".join(axis.name.replace("_", " ") for axis in dimension) for dimension in weight.dimensions]
    return " × ".join([*(axis.name for axis in node.copies), *named])
