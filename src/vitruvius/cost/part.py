"""Under which heading a weight is counted."""

from __future__ import annotations

from ..spec import MTP, Decoder, MoE, Node, Spec, Weight

# What its owner decides: these say more than the `part` of the noun that stands there.
_SLOTS: dict[tuple[type[Spec], str], str] = {
    (MoE, "experts"): "experts",
    (MoE, "shared"): "shared experts",
    (Decoder, "positions"): "positions",
}


def heading(node: Node, name: str = "", weight: Weight | None = None) -> str:
    """The heading for `node`, or for its weight `name`: the nearest `part` up the tree. What is stored but not trained is
    named ("router correction"), and all of multi-token prediction is "mtp"."""
    line = (*node.above, node.spec)
    if any(isinstance(spec, MTP) for spec in line):
        return "mtp"
    slot = node.path.rpartition(".")[2]
    if node.above and (type(node.above[-1]), slot) in _SLOTS:
        return _SLOTS[type(node.above[-1]), slot]
    part = next(spec.part for spec in reversed(line) if spec.part)
    return f"{part} {name}" if weight and weight.role == "buffer" else part
