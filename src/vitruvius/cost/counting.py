"""Parameters and FLOPs, counted from the spec's own answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

from ..spec import Decoder, Node, Weight
from .part import MTP, headed, weightless


@dataclass(frozen=True)
class Parameters:
    """Counts of weight elements. `by_part` sums to `total`, but for "mtp", which stands apart."""

    total: int
    active: int
    active_without_input_embedding: int
    active_without_embeddings: int
    by_part: Mapping[str, int]


@dataclass(frozen=True)
class Flops:
    """Floating-point operations; `by_part` splits both figures, each split summing to its figure."""

    prefill: int
    decode_per_token: int
    by_part: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Counted:
    """The weights of one name, all copies (experts), and the node whose they are. `part` is the heading."""

    part: str
    name: str
    weight: Weight
    node: Node

    @cached_property
    def copies(self) -> int:
        """How many of them are stacked."""
        return prod(axis.size for axis in self.node.copies)

    @cached_property
    def elements(self) -> int:
        """Of all copies."""
        return self.copies * self.weight.size

    @property
    def uses(self) -> float:
        """How often one token passes through each element."""
        return self.node.uses * self.weight.uses

    @property
    def passes(self) -> int:
        """Elements that one token passes through, each time counted; exact, since k of E experts are equal."""
        return round(self.elements * self.uses)

    @property
    def active(self) -> int:
        """Elements that one token passes through, each once."""
        return min(self.passes, self.elements)

    @property
    def product(self) -> bool:
        """Whether it multiplies every token."""
        return self.weight.role == "matmul"

    @property
    def encoder_side(self) -> bool:
        """Whether it works on the encoder's tokens, once for a sequence."""
        return on_the_encoder(self.node)

    @property
    def dtype(self) -> str | None:
        """Where the architecture fixes it."""
        return self.weight.dtype


def counted(arch: Decoder) -> list[Counted]:
    """All weights, multi-token prediction's too; what is stored but not trained is named ("router selection bias")."""
    return [
        Counted(
            f"{part} {name.replace('_', ' ')}" if weight.role == "buffer" and part != MTP else part, name, weight, node
        )
        for node, part in headed(arch)
        for name, weight in node.spec.weights(node.width).items()
        if weight.role != "constant"
    ]


def parameters(weights: Iterable[Counted]) -> Parameters:
    """By the three conventions of "active"."""
    total: Counter[str] = Counter()
    active: Counter[str] = Counter()
    for weight in weights:
        total[weight.part] += weight.elements
        active[weight.part] += weight.active
    in_use = active.total() - active[MTP]
    return Parameters(
        total=total.total() - total[MTP],
        active=in_use,
        active_without_input_embedding=in_use - active["embedding"],
        active_without_embeddings=in_use - active["embedding"] - active["head"],
        by_part=dict(total),
    )


def flops(nodes: Iterable[tuple[Node, str]], weights: Iterable[Counted], context: int, batch: int) -> Flops:
    """Of a prefill of `batch` prompts of `context` tokens, and of the next token of one sequence."""
    prefill: Counter[str] = Counter()
    decode: Counter[str] = Counter()
    for weight in weights:
        if weight.product and weight.part != MTP:
            prefill[weight.part] += 2 * weight.passes * context * batch
            decode[weight.part] += 0 if weight.encoder_side else 2 * weight.passes
    for node, part in nodes:
        if whole := node.spec.flops(context, tokens=context):
            prefill[weightless(part)] += whole * batch
            decode[weightless(part)] += 0 if on_the_encoder(node) else node.spec.flops(context)
    by_part = {"prefill": dict(prefill), "decode_per_token": dict(decode)}
    return Flops(prefill=prefill.total(), decode_per_token=decode.total(), by_part=by_part)


def on_the_encoder(node: Node) -> bool:
    """Whether the part works on the encoder's tokens, once for a sequence."""
    return any(spec.encoder_side for spec in (*node.above, node.spec))
