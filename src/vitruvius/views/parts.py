"""Each drawn part on its own: what it is, its equation and paper, its tensors, and its share of the whole.

The places are those that a drawing marks (`data-path`). A layer is drawn once for all of its kind; figures here are of
one such layer, shares of all of them.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from ..cost.part import MTP
from ..spec import Branch, Decoder, Layer, Node, Spec, Weight, walk
from .aspects import NAMES
from .drawing.kinds import kinds
from .words import equation as branch_equation
from .words import facts, shown, title

# What the parts compute, in the letters of `vitruvius.spec`; those whose name says it are not here.
EQUATIONS: Mapping[str, str] = {
    "Attention": "softmax(scale · q kᵀ) v",
    "LatentAttention": "softmax(scale · (q_nope·k_nope + q_rope·k_rope)) v,  (k_nope, v) = W_b · norm(c),  c = W_a x",
    "LowRank": "W_b · norm(W_a x)",
    "Softmax": "softmax(softcap(scale · q·k))",
    "OutputGate": "act(W_g x) ⊙ attention(x)",
    "UnifiedKeyValue": "v = k(x) / √(mean(k²) + ε),  k = RoPE(w ⊙ v)",
    "Indexer": "top-k over s of Σₕ wₕ · relu(qₕ · kₛ)",
    "RelativeBias": "softmax(q kᵀ + bias[head, distance]) v",
    "LogTemperature": "q · (1 + scale · ln(1 + ⌊(position + shift) / floor⌋))",
    "LengthTemperature": "scores · log(position) / log(length)  beyond length",
    "RoPE": "(x₁ cos mθᵢ − x₂ sin mθᵢ,  x₁ sin mθᵢ + x₂ cos mθᵢ),  θᵢ = theta^(−2i/D)",
    "LearnedPositions": "x + P[position]",
    "MLP": "W_down · act(W_up x)",
    "GatedMLP": "W_down · (act(W_gate x) ⊙ W_up x)",
    "ScalarGated": "σ(w·x) · body(x)",
    "MoE": "Σ over the chosen experts of wₑ · expertₑ(x), + shared(x)",
    "Router": "top-k of score(W x)",
    "RMSNorm": "w ⊙ x / √(mean(x²) + ε)",
    "LayerNorm": "w ⊙ (x − mean) / √(var + ε) + b",
    "WeightlessNorm": "x / √(mean(x²) + ε)",
    "UnitNorm": "w ⊙ x / √(Σx² + W ε)",
    "GatedNorm": "w ⊙ norm(x) ⊙ act(z)",
    "GatedDeltaNet": "S ← αS;  S ← S + k (β (v − kᵀS))ᵀ;  y = qᵀS",
    "KimiDelta": "S ← diag(α) S;  S ← S + k (β (v − kᵀS))ᵀ;  y = qᵀS",
    "Mamba2": "S ← exp(−A·dt) S + dt · b ⊗ x;  y = cᵀS + D·x",
    "ShortConv": "W_out · (c ⊙ conv(b ⊙ x))",
    "Laurel": "x + norm(W_right W_left x)",
    "PerLayerInput": "norm(W · (act(W_gate x) ⊙ e))",
    "PerLayerEmbedding": "(norm(W x / √W) + √dim · table[token]) / √2",
    "LayerScalar": "s · x",
    "Scale": "factor · x",
    "Embedding": "scale · E[token]",
    "Head": "softcap(scale · x Vᵀ)",
    "MTP": "layer(join([norm(h), norm(E[next token])]))",
}


@dataclass(frozen=True)
class Kind:
    """What a class of parts is: its equation, what its docstring says, and the papers named there."""

    equation: str | None
    about: str
    papers: tuple[str, ...]  # arXiv ids, in the order of the text


@dataclass(frozen=True)
class Tensor:
    """A stored tensor of one layer: `shape` with the stacked axes first, and what its axes are called."""

    name: str
    shape: tuple[int, ...]
    axes: str


@dataclass(frozen=True)
class PartTold:
    """One drawn part.

    Args:
        kind: its class, a key of `told_kinds`; "" for a matrix or a number, which belongs to a part.
        equation: its own, where it has one that its kind does not say (a branch, a projection).
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


def about(kind: type[Spec]) -> Kind:
    """What there is to read about a class of parts, without its arguments."""
    text = " ".join(re.split(r"\n\s*Args:", inspect.getdoc(kind) or "")[0].split())
    text = re.sub(r"\*(\w[^*]*)\*|`([^`]+)`", r"\1\2", text)  # no markup
    return Kind(EQUATIONS.get(kind.__name__), text, tuple(dict.fromkeys(re.findall(r"\b\d{4}\.\d{5}\b", text))))


def told_parts(arch: Decoder, paths: Iterable[str], context: int) -> dict[str, PartTold]:
    """path -> what there is to say of it, for the paths that a drawing of `arch` marks. FLOPs are of decoding one
    token at position `context`."""
    tree = _Tree(arch, context)
    return {path: told for path in dict.fromkeys(paths) if (told := tree.told(path)) is not None}


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

    def told(self, path: str) -> PartTold | None:
        """What there is to say of a drawn place; None for one that is nothing by itself ("context")."""
        node, rest = self._nearest(path)
        value = _held(node.spec, rest)
        if isinstance(value, (Branch, Layer)):
            equation = branch_equation(value) if isinstance(value, Branch) else None
            return self._figures(path, title(value), "", _facts(value), equation)
        if isinstance(value, Spec) and not isinstance(value, Decoder):
            return self._figures(path, title(value), type(value).__name__, _facts(value), None, self._inside(path))
        if tensors := self._inside(path) if rest and not isinstance(node.spec, Decoder) else ():
            name = f"{rest.removesuffix('.weight')} of {title(node.spec)}"
            return self._figures(path, name, "", (), _product(node, rest), tensors)
        if rest and value is not _NOTHING and not isinstance(value, tuple):
            label = NAMES.get(type(node.spec), {}).get(rest, rest.rpartition(".")[2].replace("_", " "))
            label = label if isinstance(label, str) else label[0]
            if isinstance(node.spec, Decoder):
                return self._figures(path, label, "", (shown(value),), None)
            return self._figures(path, title(node.spec), type(node.spec).__name__, (f"{label}: {shown(value)}",), None)
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
        said: tuple[str, ...],
        equation: str | None,
        tensors: tuple[Tensor, ...] = (),
    ) -> PartTold:
        layers = next((n for above, n in self.layers.items() if f"{path}.".startswith(f"{above}.")), 1)
        parameters, flops = self.parameters[path], self.flops[path]
        apart = path.startswith(MTP)
        share, flops_share = (
            None if apart or not whole[""] else round(layers * whole[path] / whole[""], 6)
            for whole in (self.parameters, self.flops)
        )
        return PartTold(name, kind, said, equation, tensors, layers, parameters, share, flops, flops_share)


_NOTHING = object()


def _held(spec: Spec, rest: str) -> Any:
    """What is held under a dotted name, `_NOTHING` if that is no field."""
    value: Any = spec
    for step in filter(None, rest.split(".")):
        value = getattr(value, step, _NOTHING)
    return value


def _facts(value: Spec) -> tuple[str, ...]:
    return tuple(facts(value.body if isinstance(value, Branch) else value))


def _product(node: Node, rest: str) -> str:
    """A projection as an equation: y = x Wᵀ, with its bias where it has one."""
    bias = f"{rest.removesuffix('.weight')}.bias" in node.spec.weights(node.width)
    return "y = x Wᵀ + b" if bias else "y = x Wᵀ"


def _axes(weight: Weight, node: Node) -> str:
    """What the axes are called, outermost first: "experts × hidden × width"."""
    named = [" + ".join(axis.name.replace("_", " ") for axis in dimension) for dimension in weight.dimensions]
    return " × ".join([*(axis.name for axis in node.copies), *named])
