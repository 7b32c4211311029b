"""Aligned columns of text, and costs in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import wrap

from ..cost import Cost
from ..cost.part import MTP as APART
from ..cost.quantity import count, flops, number, ratio, size

WIDTH = 100  # columns of a terminal that a table may take
GAP = "  "


def table(rows: Sequence[Sequence[str]], right: bool = False) -> str:
    """Rows as aligned columns, the first to the left, the others to the left or `right`; an empty row is an empty line.

    Cells to the left are wrapped where the table would be wider than `WIDTH`: all columns but the first share what the
    first leaves.
    """
    columns = max(len(row) for row in rows)
    widths = [max((len(row[i]) for row in rows if i < len(row)), default=0) for i in range(columns)]
    if not right and sum(widths) + len(GAP) * (columns - 1) > WIDTH:
        share = (WIDTH - widths[0]) // (columns - 1) - len(GAP)
        widths = [widths[0], *(min(width, max(share, 12)) for width in widths[1:])]
    lines = []
    for row in rows:
        cells = [wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=False)]
        for k in range(max(map(len, cells), default=1)):
            texts = [cell[k] if k < len(cell) else "" for cell in cells]
            padded = [
                text.rjust(width) if right and i else text.ljust(width)
                for i, (text, width) in enumerate(zip(texts, widths, strict=False))
            ]
            lines.append(GAP.join(padded).rstrip())
    return "\n".join(lines)


def costs_table(costs: Sequence[Cost]) -> str:
    """Costs side by side, one column for each model, and for two the ratio of the second to the first."""
    lines: list[tuple[str, Callable[[int], str], list[int]]] = [
        ("parameters", count, [c.parameters.total for c in costs]),
        ("active parameters", count, [c.parameters.active for c in costs]),
        ("weights", size, [c.memory.weights_bytes for c in costs]),
        ("state", size, [c.state.bytes for c in costs]),
        ("state per token", size, [c.state.bytes_per_token for c in costs]),
        ("prefill", flops, [c.flops.prefill for c in costs]),
        ("decode, per token", flops, [c.flops.decode_per_token for c in costs]),
    ]
    if all(c.parameters.active == c.parameters.total for c in costs):
        del lines[1]
    rows = [[setting(costs[0]), *(c.model for c in costs)]]
    rows += [[label, *map(shown, values), *_ratio(values)] for label, shown, values in lines]
    return table(rows, right=True)


def setting(cost: Cost) -> str:
    """For what the figures hold: "8 sequences of 131,072 tokens, bf16"."""
    sequences = f"{number(cost.state.batch)} sequences of " if cost.state.batch > 1 else ""
    return f"{sequences}{number(cost.state.context)} tokens, {cost.dtype}"


def _ratio(values: Sequence[int]) -> list[str]:
    return [ratio(values[1] / values[0])] if len(values) == 2 and values[0] else []


def cost_table(cost: Cost) -> str:
    """One model's cost in full: parameters and FLOPs by part, then the totals with their conventions."""
    return f"{cost.model}: {setting(cost)}\n\n{_parts(cost)}\n\n{_totals(cost)}"


def _parts(cost: Cost) -> str:
    counts = cost.parameters.by_part
    decode, prefill = cost.flops.by_part["decode_per_token"], cost.flops.by_part["prefill"]
    rows = [["", "parameters", "decode, per token", "prefill"]]
    for part in dict.fromkeys((*counts, *decode)):
        if part != APART:
            cells = ((counts, number), (decode, flops), (prefill, flops))
            rows.append([part, *(shown(split[part]) if part in split else "" for split, shown in cells)])
    total = (number(cost.parameters.total), flops(cost.flops.decode_per_token), flops(cost.flops.prefill))
    rows.append(["total", *total])
    if APART in counts:
        rows.append([f"{APART}, apart", number(counts[APART])])
    return table(rows, right=True)


def _totals(cost: Cost) -> str:
    p, state, memory = cost.parameters, cost.state, cost.memory
    rows = [["parameters", number(p.total), count(p.total)]]
    if p.active != p.total:
        rows.append(["active", number(p.active), count(p.active)])
    rows += [
        ["  without the input embedding", number(p.active_without_input_embedding)],
        ["  without embedding and head", number(p.active_without_embeddings)],
        ["weights", f"{number(memory.weights_bytes)} bytes", size(memory.weights_bytes)],
        ["state", f"{number(state.bytes)} bytes", size(state.bytes)],
        ["  each token, windows not full", f"{number(state.bytes_per_token)} bytes", size(state.bytes_per_token)],
        ["weights and state", f"{number(memory.total_bytes)} bytes", size(memory.total_bytes)],
    ]
    return table(rows, right=True)
