"""Aligned columns of text, and costs in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from textwrap import wrap

from ..cost import Cost
from ..cost.part import MTP as APART
from ..cost.part import weightless
from ..cost.quantity import count, flops, number, ratio, size
from ..terminal import COLUMNS, prose

GAP = "  "
LEAST = 12  # columns that a wrapped cell of words gets beside figures


def table(rows: Sequence[Sequence[str]], left: int | None = None) -> str:
    """Rows as aligned columns, the first `left` of them (all, if None) to the left; an empty row is an empty line. A
    cell may have lines.

    Where all are to the left, cells are wrapped so that the table is as wide as prose may be. Figures are never
    wrapped: where they do not fit into the terminal, the words to their left are, and then the columns go on in another
    table below.
    """
    columns = max(len(row) for row in rows)
    cell_lines = [[cell.splitlines() or [""] for cell in row] for row in rows]
    widths = [max(len(line) for row in cell_lines if i < len(row) for line in row[i]) for i in range(columns)]
    if left is None:
        left, widths = columns, fitted(widths, prose() - len(GAP) * (columns - 1))
    elif limit := COLUMNS.get():
        words, figures = widths[:left], widths[left:]
        room = limit - sum(figures) - len(GAP) * (columns - 1)
        if sum(words) > room >= LEAST * left:
            widths = [*fitted(words, room), *figures]
        elif sum(words) > room and len(figures) > 1:
            return _cut(rows, left, widths, limit)
    lines = []
    for row in cell_lines:
        cells = [
            [part for line in cell for part in wrap(line, width, break_on_hyphens=False) or [""]]
            for cell, width in zip(row, widths, strict=False)
        ]
        for k in range(max(map(len, cells), default=1)):
            texts = [cell[k] if k < len(cell) else "" for cell in cells]
            padded = [
                text.ljust(width) if i < left else text.rjust(width)
                for i, (text, width) in enumerate(zip(texts, widths, strict=False))
            ]
            lines.append(GAP.join(padded).rstrip())
    return "\n".join(lines)


def _cut(rows: Sequence[Sequence[str]], left: int, widths: list[int], limit: int) -> str:
    """Several tables with the same words to the left and some of the figures each."""
    room = limit - sum(widths[:left]) - len(GAP) * left
    fit = 1
    while fit < len(widths) - left - 1 and sum(widths[left : left + fit + 1]) + len(GAP) * fit <= room:
        fit += 1
    first = [row[: left + fit] for row in rows]
    rest = [[*row[:left], *row[left + fit :]] for row in rows if len(row) > left + fit]
    return f"{table(first, left)}\n\n{table(rest, left)}"


def fitted(widths: Sequence[int], room: int) -> list[int]:
    """Widths that fit into `room`: narrow columns keep theirs, the wide ones share what is left evenly."""
    left, fit = room, list(widths)
    by_width = sorted(range(len(widths)), key=widths.__getitem__)
    for rank, i in enumerate(by_width):
        fit[i] = min(widths[i], max(left // (len(widths) - rank), 1))
        left -= fit[i]
    return fit


def html_table(rows: Sequence[Sequence[str]], left: int | None = None) -> str:
    """The same for a notebook: the first row is the heading."""
    style = "text-align:{}; vertical-align:top; white-space:pre-line"

    def cells(row: Sequence[str], tag: str) -> str:
        sides = ("left" if left is None or i < left else "right" for i in range(len(row)))
        return "".join(
            f'<{tag} style="{style.format(side)}">{escape(cell)}</{tag}>' for cell, side in zip(row, sides, strict=True)
        )

    head, *body = (row for row in rows if row)
    lines = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in body)
    return (
        f'<table style="margin-bottom: 1em"><thead><tr>{cells(head, "th")}</tr></thead><tbody>{lines}</tbody></table>'
    )


def costs_table(costs: Sequence[Cost]) -> str:
    """Costs side by side, one column for each model, and for two the ratio of the second to the first."""
    return table(costs_rows(costs), left=1)


def costs_rows(costs: Sequence[Cost]) -> list[list[str]]:
    """The rows of `costs_table`, its heading first."""
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
    return rows + [[label, *map(shown, values), *_ratio(values)] for label, shown, values in lines]


def setting(cost: Cost) -> str:
    """For what the figures hold: "8 sequences of 131,072 tokens, bf16"."""
    sequences = f"{number(cost.state.batch)} sequences of " if cost.state.batch > 1 else ""
    return f"{sequences}{number(cost.state.context)} tokens, {cost.dtype}"


def _ratio(values: Sequence[int]) -> list[str]:
    return [ratio(values[1] / values[0])] if len(values) == 2 and values[0] else []


def cost_table(cost: Cost) -> str:
    """One model's cost in full: parameters and FLOPs by part, then the totals with their conventions."""
    return f"{cost.model}: {setting(cost)}\n\n{table(parts_rows(cost), 1)}\n\n{table(totals_rows(cost), 1)}"


def parts_rows(cost: Cost) -> list[list[str]]:
    """Parameters and FLOPs by part, the heading first."""
    counts = cost.parameters.by_part
    decode, prefill = cost.flops.by_part["decode_per_token"], cost.flops.by_part["prefill"]
    rows = [["", "parameters", "decode, per token", "prefill"]]
    for part in (name for counted in counts for name in (counted, weightless(counted))):
        cells = ((counts, number), (decode, flops), (prefill, flops))
        if part != APART and any(part in split for split, _ in cells):
            rows.append([part, *(shown(split[part]) if part in split else "" for split, shown in cells)])
    total = (number(cost.parameters.total), flops(cost.flops.decode_per_token), flops(cost.flops.prefill))
    rows.append(["total", *total])
    if APART in counts:
        rows.append([f"{APART}, apart", number(counts[APART])])
    return rows


def totals_rows(cost: Cost) -> list[list[str]]:
    """Parameters by each convention, weights, and state by each policy: (what, in full, rounded)."""
    p, state, memory = cost.parameters, cost.state, cost.memory
    rows = [["parameters", number(p.total), count(p.total)]]
    if p.active != p.total:
        rows.append(["active", number(p.active), count(p.active)])
    for label, some in (
        ("  without the input embedding", p.active_without_input_embedding),
        ("  without embedding and head", p.active_without_embeddings),
    ):
        rows.append([label, number(some), count(some)])
    sizes = [("weights", memory.weights_bytes), ("state", state.bytes), (f"  {growth(cost)}", state.bytes_per_token)]
    sizes += [(f"  {part}", some) for part, some in state.by_part.items() if len(state.by_part) > 1]
    sizes += [(f"  as {name} keeps it", some) for name, some in state.policies.items() if some != state.bytes]
    sizes.append(("weights and state", memory.total_bytes))
    return rows + [[label, f"{number(some)} bytes", size(some)] for label, some in sizes]


def growth(cost: Cost) -> str:
    """What `bytes_per_token` says of this model."""
    windowed = cost.state.bytes < cost.state.bytes_per_token * cost.state.context * cost.state.batch
    return f"per token{' until the windows are full' if windowed else ''}"
