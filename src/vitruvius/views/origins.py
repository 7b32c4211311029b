"""A known model's figures beside what its vendor publishes, each with where it comes from."""

from __future__ import annotations

from textwrap import wrap

from ..catalog import Entry
from ..cost import Cost
from ..cost.quantity import number
from ..terminal import prose
from .table import table

UNITS = {"M": 10**6, "B": 10**9, "T": 10**12}


def origins(entry: Entry, cost: Cost) -> str:
    """Computed and published figures in a table, then what is not confirmed, and the sources."""
    notes = {
        "note": [entry.published["note"]] if entry.published["note"] else [],
        "unconfirmed": list(entry.unconfirmed),
        "license": [entry.license] if entry.license else [],
        "sources": list(entry.sources),
    }
    lines = (line for label, texts in notes.items() for line in _note(label, texts))
    return "\n".join([table(figures(entry, cost)), "", *lines])


def figures(entry: Entry, cost: Cost) -> list[list[str]]:
    """(what, figure, where it comes from); the first is empty where it is that of the row above."""
    p, published = cost.parameters, entry.published
    source = f"published, {published['source']}"
    exact = "exact, from the definition" + ("" if entry.exact["tested"] else ", which hangs on unconfirmed values")
    rows = [["parameters", number(p.total), exact]]
    rows.append(["", published["total"], f"{source}{_rounded(published['total'], p.total)}"])
    if published["active"]:
        rows.append(["active", number(p.active), exact])
        rows.append(["", published["active"], f"{source}{_convention(published['active'], cost)}"])
    vision = entry.exact["with_vision"]
    if vision:
        rows.append(["with vision", number(vision), "recorded from transformers 5.23.0"])
    return [*rows, ["context", number(cost.state.context), "config.json"]]


def as_precise(published: str, figure: int) -> str:
    """A figure rounded as precisely as another was published: 37552282624 beside "46.7B" is "37.6B"."""
    number, unit = published[:-1], published[-1]
    return f"{figure / UNITS[unit]:.{len(number.partition('.')[2])}f}{unit}"


def _rounded(published: str, figure: int) -> str:
    ours = as_precise(published, figure)
    return "" if ours == published else f"; this definition rounds to {ours}"


def _convention(published: str, cost: Cost) -> str:
    """By which way of counting the published active parameters come out."""
    p = cost.parameters
    ways = {
        "both embeddings counted": p.active,
        "without the input embedding": p.active_without_input_embedding,
        "without embedding and head": p.active_without_embeddings,
    }
    found = next((way for way, figure in ways.items() if as_precise(published, figure) == published), None)
    return f" ({found})" if found else "; no way of counting gives it"


def _note(label: str, texts: list[str]) -> list[str]:
    width = prose() - 13
    lines = [line for text in texts for line in wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)]
    return [f"{label if i == 0 else '':11}  {line}" for i, line in enumerate(lines)]
