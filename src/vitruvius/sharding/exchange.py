"""What devices tell each other, and how much of it one device sends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from ..spec import Decoder, Exchange, Node, walk
from .layout import Layout, MeshDimension

Kind = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send"]
KINDS: dict[str, tuple[Kind, MeshDimension]] = {
    "reduce": ("all_reduce", "tensor"),
    "gather": ("all_gather", "tensor"),
    "spread": ("all_to_all", "expert"),
}


@dataclass(frozen=True)
class Collective:
    """An exchange among the devices of one dimension of the mesh.

    Args:
        module: the path after which it stands; of weights, the part whose they are.
        elements: numbers that one device sends in it.
        per: of what: of each token of its group, of each sequence, or of a training step.
    """

    kind: Kind
    over: MeshDimension
    module: str
    elements: Fraction
    per: Literal["token", "sequence", "step"] = "token"


def exchanges(arch: Decoder) -> Iterator[tuple[Node, Exchange]]:
    """All that the parts of a model say, in the order of computation, each with the node after which it stands; what a
    part says holds for all below it. Multi-token prediction is left out."""
    owner = ""  # the last part that said something, and what
    stated: tuple[Exchange, ...] = ()
    for node in walk(arch, arch.width):
        if owner and node.path.startswith(f"{owner}."):
            slot = node.path[len(owner) + 1 :]
            yield from ((node, each) for each in stated if each.slot == slot)
        elif not node.path.startswith("mtp."):
            stated = node.spec.exchanges(node.width)
            owner = node.path if stated else ""
            yield from ((node, each) for each in stated if each.slot is None)


def sent(exchange: Exchange, layout: Layout) -> Fraction:
    """Numbers that one device sends for a token of its group.

    A ring needs 2(t − 1)/t of the data to sum over t devices, (t − 1)/t to gather. Of a token's k experts,
    (n − 1)(1 − (1 − 1/n)^k) other devices are expected to hold some, and each gets the token once, and sends it back.
    """
    if exchange.when not in ("always", "cut" if layout.spread is None else "spread"):
        return Fraction(0)
    t = layout.tensor
    if exchange.kind != "spread":
        return Fraction(exchange.channels * (t - 1) * (2 if exchange.kind == "reduce" else 1), t)
    n = layout.spread or 1
    return Fraction(2 * exchange.channels * (n - 1), t) * (1 - (1 - Fraction(1, n)) ** exchange.active)
