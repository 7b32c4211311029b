"""The plan of a model on many devices: where every weight and state lies, and what devices tell each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Literal

from ..errors import InputError
from ..spec import Axis, Decoder, Node, StateEntry, Weight, walk
from ..spec.base import Dimension
from .cutting import RULES, copied, fullest, on_one, parts, refusal, share
from .exchange import KINDS, Collective, exchanges, sent
from .layout import Layout, MeshDimension

Zero = Literal[0, 1, 2, 3]


@dataclass(frozen=True)
class Shard:
    """Cut along dimension `dim` of the tensor. Each of `segments`, which lie side by side, is cut by itself into so
    many (size, parts); one of fewer parts than devices is copied."""

    dim: int
    segments: tuple[tuple[int, int], ...]

    def plain(self, devices: int) -> bool:
        """Whether it is `devices` equal blocks of rows, as DTensor's Shard(dim) cuts."""
        return len(self.segments) == 1 and self.segments[0][1] == devices and self.segments[0][0] % devices == 0


@dataclass(frozen=True)
class Replicate:
    """Whole on every device of the dimension."""


Placement = Shard | Replicate


@dataclass(frozen=True)
class WeightPlacement:
    """One weight.

    Args:
        name: its canonical name.
        shape: of the whole, with stacked experts in front.
        placements: dimension of the mesh -> how it lies there, for all that have several devices. On "pipeline" a
            weight is whole on its `stage`.
        share: what the fullest device of its stage holds, before "data" shares it out.
    """

    name: str
    shape: tuple[int, ...]
    placements: Mapping[MeshDimension, Placement]
    share: Fraction
    stage: int

    @property
    def elements(self) -> int:
        """On the fullest device, before "data" shares them out."""
        return -(-prod(self.shape) * self.share.numerator // self.share.denominator)


@dataclass(frozen=True)
class StatePlacement:
    """One entry of state: `name` is its part's path and its own name; the rest as of weights. "context" cuts the tokens
    of what grows."""

    name: str
    entry: StateEntry
    placements: Mapping[MeshDimension, Placement]
    share: Fraction
    stage: int


@dataclass(frozen=True)
class ModulePlacement:
    """How a matrix's input and output lie on "tensor", of which the last dimension may be cut: "partial" outputs are
    summed by the collective after the part that they belong to."""

    name: str
    input: Literal["replicate", "shard"]
    output: Literal["replicate", "shard", "partial"]


@dataclass(frozen=True)
class ShardingPlan:
    """All of it. `refusals` are why engines refuse the layout; it is planned for the fullest device all the same.
    `notes` say what is copied."""

    layout: Layout
    zero: Zero | None
    weights: tuple[WeightPlacement, ...]
    states: tuple[StatePlacement, ...]
    modules: tuple[ModulePlacement, ...]
    collectives: tuple[Collective, ...]
    refusals: tuple[str, ...]
    notes: tuple[str, ...]


def plan(arch: Decoder, layout: Layout, zero: Zero | None = None) -> ShardingPlan:
    """Where everything of `arch` lies.

    Args:
        zero: for training, what "data" and "context" share out: 1 optimiser states, 2 gradients too, 3 weights too
            (FSDP; Rajbhandari et al. 2019, arXiv 1910.02054). None for inference, which has no gradients.

    Raises InputError where the pipeline has more stages than the model has layers.
    """
    if layout.pipeline > len(arch.layers):
        raise InputError(f"{len(arch.layers)} layers cannot fill {layout.pipeline} stages of a pipeline")
    nodes = [(node, stage_of(node.path, arch, layout)) for node in walk(arch, arch.width)]
    weights = tuple(placed for node, stage in nodes for placed in _weights(node, stage, layout, zero))
    return ShardingPlan(
        layout=layout,
        zero=zero,
        weights=weights,
        states=tuple(placed for node, stage in nodes for placed in _states(node, stage, layout)),
        modules=tuple(module for node, _ in nodes for module in _modules(node, layout)),
        collectives=(*_between_tokens(arch, layout, zero is not None), *_of_gradients(weights, layout, zero)),
        refusals=tuple(dict.fromkeys(_refusals([node for node, _ in nodes], layout))),
        notes=tuple(dict.fromkeys(_notes([node for node, _ in nodes], layout))),
    )


def stage_of(path: str, arch: Decoder, layout: Layout) -> int:
    """The stage of the pipeline, counted from 0: layers in equal runs, the first ones longer by one; what comes before
    them on the first, what comes after on the last."""
    top, _, rest = path.partition(".")
    if top == "layers":
        each, longer = divmod(len(arch.layers), layout.pipeline)
        i = int(rest.partition(".")[0])
        return i // (each + 1) if i < longer * (each + 1) else longer + (i - longer * (each + 1)) // each
    return layout.pipeline - 1 if top in ("final_norm", "head", "mtp") else 0


# ------------------------------------------------------------------ placements


def _weights(node: Node, stage: int, layout: Layout, zero: Zero | None) -> Iterator[WeightPlacement]:
    for name, weight, shape in node.weights():
        placements = _placements(weight.dimensions, node.copies, layout)
        if zero == 3 and (groups := _groups(_spread(node.copies, layout), layout)) > 1:
            placements["data"] = Shard(0, ((shape[0], groups),))
        held = on_one(weight.dimensions, node.copies, layout)
        yield WeightPlacement(name, shape, placements, held, stage)


def _states(node: Node, stage: int, layout: Layout) -> Iterator[StatePlacement]:
    for name, entry in node.spec.state().items():
        placements = _placements(entry.dimensions, (), layout)
        if "context" in placements and entry.stride is not None:
            placements["context"] = Shard(0, ())  # its tokens
        yield StatePlacement(f"{node.path}.{name}", entry, placements, share(entry.dimensions, layout.tensor), stage)


def _groups(spread: int | None, layout: Layout) -> int:
    """How many devices hold the same weights, whole experts of `spread` devices or not, and so share out what training
    keeps of them."""
    return layout.stage // spread if spread else layout.data * layout.context


def _spread(copies: tuple[Axis, ...], layout: Layout) -> int | None:
    """The devices that these copies are spread over, if they are whole experts."""
    return layout.spread if any(axis.cut == "experts" for axis in copies) else None


def _placements(
    dimensions: tuple[Dimension, ...], copies: tuple[Axis, ...], layout: Layout
) -> dict[MeshDimension, Placement]:
    found: dict[MeshDimension, Placement] = {name: Replicate() for name in layout.mesh}
    if _spread(copies, layout) and "expert" in found:
        at = next(i for i, axis in enumerate(copies) if axis.cut == "experts")
        found["expert"] = Shard(at, ((copies[at].size, min(copies[at].count, layout.mesh["expert"])),))
    elif "tensor" in found:
        for i, dimension in enumerate(dimensions):
            if any(RULES[axis.cut].cut for axis in dimension):
                segments = tuple((axis.size, parts(axis, layout.tensor)) for axis in dimension)
                found["tensor"] = Shard(len(copies) + i, segments)
    return found


def _modules(node: Node, layout: Layout) -> Iterator[ModulePlacement]:
    for name, weight in node.spec.weights(node.width).items():
        if name.endswith("weight") and weight.role in ("matmul", "table") and len(weight.dimensions) == 2:
            whole = layout.tensor == 1 or _spread(node.copies, layout)
            out, into = (not whole and any(RULES[a.cut].cut for a in side) for side in weight.dimensions)
            path = f"{node.path}.{name}".removesuffix(".weight")
            if weight.role == "table":  # rows are looked up: a device without the row gives zeros
                yield ModulePlacement(path, "replicate", "partial" if out else "shard" if into else "replicate")
            else:
                yield ModulePlacement(
                    path, "shard" if into else "replicate", "partial" if into else "shard" if out else "replicate"
                )


# ------------------------------------------------------------------ what is exchanged


def _between_tokens(arch: Decoder, layout: Layout, training: bool) -> Iterator[Collective]:
    """Of activations. Backward, each has a conjugate of the same size."""
    passes = 2 if training else 1
    for node, each in exchanges(arch):
        kind, over = KINDS[each.kind]
        if elements := passes * sent(each, layout):
            yield Collective(kind, over, node.path, elements)
    for i in range(1, len(arch.layers)):
        if stage_of(f"layers.{i}", arch, layout) > stage_of(f"layers.{i - 1}", arch, layout):
            stream = passes * arch.streams * arch.width
            yield Collective("send", "pipeline", f"layers.{i - 1}", Fraction(stream, layout.tensor))
    if layout.context > 1:
        for node in walk(arch, arch.width):
            yield from _along_the_sequence(node, layout, passes)


def _along_the_sequence(node: Node, layout: Layout, passes: int) -> Iterator[Collective]:
    """Keys and values of every token go round the ring; a recurrence's memory goes to the next device."""
    c = layout.context
    tokens, fixed = Fraction(0), Fraction(0)
    for entry in node.spec.state().values():
        elements = prod(entry.shape) * share(entry.dimensions, layout.tensor)
        if entry.stride is None:
            fixed += elements
        else:
            tokens += elements / entry.stride
    if tokens:
        yield Collective("all_gather", "context", node.path, passes * tokens * Fraction(c - 1, c))
    if fixed:
        yield Collective("send", "context", node.path, passes * fixed, per="sequence")


def _of_gradients(weights: tuple[WeightPlacement, ...], layout: Layout, zero: Zero | None) -> Iterator[Collective]:
    """Of weights and gradients, once a step, for each layer and for the rest."""
    if zero is None:
        return
    units: dict[str, Fraction] = {}
    for weight in weights:
        groups = _groups(layout.spread if isinstance(weight.placements.get("expert"), Shard) else None, layout)
        path = weight.name.split(".")
        unit = ".".join(path[: 2 if path[0] in ("layers", "mtp") else 1])
        units[unit] = units.get(unit, Fraction(0)) + Fraction(weight.elements * (groups - 1), groups)
    for unit, moved in units.items():
        if not moved:
            continue
        if zero >= 3:
            yield Collective("all_gather", "data", unit, 2 * moved, per="step")  # forward and backward
        if zero >= 2:
            yield Collective("reduce_scatter", "data", unit, moved, per="step")
        else:
            yield Collective("all_reduce", "data", unit, 2 * moved, per="step")


# ------------------------------------------------------------------ what does not come out even


def _axes(nodes: list[Node]) -> Iterator[tuple[Axis, Node, Weight]]:
    for node in nodes:
        for weight in node.spec.weights(node.width).values():
            for dimension in weight.dimensions:
                yield from ((axis, node, weight) for axis in dimension)


def _refusals(nodes: list[Node], layout: Layout) -> Iterator[str]:
    for axis, node, _ in _axes(nodes):
        if not _spread(node.copies, layout) and (why := refusal(axis, layout.tensor)):
            yield why
    for axis in dict.fromkeys(axis for node in nodes for axis in node.copies):
        if layout.spread and axis.cut == "experts" and axis.count % layout.spread:
            yield f"{axis.count} experts do not divide among {layout.spread} devices"


def _notes(nodes: list[Node], layout: Layout) -> Iterator[str]:
    for axis, node, _ in _axes(nodes):
        if not _spread(node.copies, layout) and (what := copied(axis, layout.tensor)):
            yield what
    rows = {axis for axis, _, _ in _axes(nodes) if axis.cut == "vocabulary" and axis.count % layout.tensor}
    for axis in rows:
        padded = fullest(axis, layout.tensor) * layout.tensor
        yield f"the vocabulary of {axis.count:,} is padded to {padded:,}"
