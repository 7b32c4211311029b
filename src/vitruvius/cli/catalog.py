"""`vitruvius catalog`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError
from ..terminal import COLUMNS
from . import options
from .output import emit, emit_json

if TYPE_CHECKING:
    from ..catalog import Entry
    from ..cost import Cost

    Found = tuple[Entry, Cost]

SORTED: dict[str, Callable[[Found], Any]] = {
    "name": lambda found: found[0].id,
    "family": lambda found: (found[0].family.casefold(), found[0].released or "", found[0].id),
    "released": lambda found: (found[0].released or "", found[0].id),
    "parameters": lambda found: found[1].parameters.total,
    "active": lambda found: found[1].parameters.active,
    "state": lambda found: found[1].state.bytes_per_token,
    "context": lambda found: found[1].state.context,
}


@click.command()
@click.argument("words", nargs=-1)
@click.option("--sort", "by", type=click.Choice(list(SORTED)), help="Smallest or earliest first.")
@click.option("--reverse", is_flag=True, help="The other way round.")
@click.option("--at-most", type=options.Count(), metavar="N", help="At most so many parameters: 8B.")
@click.option("--at-least", type=options.Count(), metavar="N", help="At least so many.")
@options.as_json
@options.output
def command(
    words: tuple[str, ...],
    by: str | None,
    reverse: bool,
    at_most: int | None,
    at_least: int | None,
    as_json: bool,
    output: str | None,
) -> None:
    """The known models: parameters, active parameters, the state that a token adds (in bf16), the longest context.

    Given WORDS, those that all of them are said of: qwen, 2025, moe, nope, yarn, "128 experts", sliding ...
    """
    from .. import catalog
    from ..checkpoints.sources import architecture
    from ..cost import cost
    from ..views.search import holds, searchable

    found: list[Found] = []
    for entry in catalog.entries():
        arch = architecture(entry.id)
        if words and not holds(searchable(arch, entry), words):
            continue
        figures = cost(arch)
        if (at_least or 0) <= figures.parameters.total <= (at_most or figures.parameters.total):
            found.append((entry, figures))
    if not found:
        raise InputError("no model of the catalog is so: fewer words or wider limits; `vitruvius catalog` lists all")
    if by:
        found.sort(key=SORTED[by])
    if reverse:
        found.reverse()
    if as_json:
        return emit_json([_record(entry, c) for entry, c in found], output)
    return emit(_table(found), output)


def _record(entry: Entry, c: Cost) -> dict[str, Any]:
    told = ("id", "name", "family", "repository", "released", "license", "predecessor", "published", "unconfirmed")
    record = {key: getattr(entry, key) for key in (*told, "unconfirmed_keys", "sources")}
    figures = c.to_dict()
    state = {"context": c.state.context, "bytes_per_token": c.state.bytes_per_token, "bytes": c.state.bytes}
    return record | {"parameters": figures["parameters"], "state": state}


# columns that are left out where the terminal is narrow, the first first
LEFT_OUT = ("released", "family", "context", "state/token")


def _table(found: list[Found]) -> str:
    from ..cost.quantity import count, number, size
    from ..views.table import GAP, table

    rows = [
        {
            "name": entry.id + (" *" if entry.unconfirmed else ""),
            "family": entry.family,
            "released": entry.released or "",
            "parameters": count(c.parameters.total),
            "active": "" if c.parameters.active == c.parameters.total else count(c.parameters.active),
            "state/token": size(c.state.bytes_per_token),
            "context": number(c.state.context),
        }
        for entry, c in found
    ]
    shown = list(rows[0])
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in shown}
    for name in LEFT_OUT:
        if sum(widths[each] + len(GAP) for each in shown) - len(GAP) > (COLUMNS.get() or 1000):
            shown.remove(name)
    text = table([shown, *([row[name] for name in shown] for row in rows)], left=1 + ("family" in shown))
    doubted = any(entry.unconfirmed for entry, _ in found)
    return text + ("\n\n* something is not confirmed: `vitruvius show NAME` says what" if doubted else "")
