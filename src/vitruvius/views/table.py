"""Aligned columns of text."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from ..cost import Cost
from ..cost.quantity import count, number, size

WIDTH = 100  # columns of a terminal that a table may take
GAP = "  "


def table(rows: Sequence[Sequence[str]], right: bool = False, width: int = WIDTH) -> str:
    """Rows as aligned columns, the first to the left, the others to the left or `right`; an empty row is an empty line.

    Where it is wider than `width`, long cells are wrapped: all columns but the first share what is left of it.
    """
    columns = max(len(row) for row in rows)
    widest = [max((len(row[i]) for row in rows if i < len(row)), default=0) for i in range(columns)]
    if sum(widest) + len(GAP) * (columns - 1) > width and not right:
        share = (width - widest[0]) // max(columns - 1, 1) - len(GAP)
        widest = [widest[0], *(min(w, max(share, 12)) for w in widest[1:])]
    lines = []
    for row in rows:
        cells = [wrap(cell, widest[i]) or [""] for i, cell in enumerate(row)]
        for k in range(max(map(len, cells), default=1)):
            texts = [cell[k] if k < len(cell) else "" for cell in cells]
            padded = [t.rjust(widest[i]) if right and i else t.ljust(widest[i]) for i, t in enumerate(texts)]
            lines.append(GAP.join(padded).rstrip())
    return "\n".join(lines)


def costs_table(costs: Sequence[Cost]) -> str:
    """Costs side by side, one column for each model."""
    state = costs[0].state
    many = f", {number(state.batch)} sequences" if state.batch > 1 else ""
    rows: list[list[str]] = [[f"at {number(state.context)} tokens{many}", *(c.model for c in costs)]]
    rows.append(["parameters", *(count(c.parameters.total) for c in costs)])
    if any(c.parameters.active != c.parameters.total for c in costs):
        rows.append(["active parameters", *(count(c.parameters.active) for c in costs)])
    rows += [
        ["weights", *(size(c.memory.weights_bytes) for c in costs)],
        ["state", *(size(c.state.bytes) for c in costs)],
        ["state per token", *(size(c.state.bytes_per_token) for c in costs)],
        ["FLOPs of prefill", *(count(c.flops.prefill) for c in costs)],
        ["FLOPs per decoded token", *(count(c.flops.decode_per_token) for c in costs)],
    ]
    return table(rows, right=True)
