"""`vitruvius catalog`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from . import options
from .output import emit, emit_json

if TYPE_CHECKING:
    from ..catalog import Entry
    from ..cost import Cost


@click.command()
@options.as_json
@options.output
def command(as_json: bool, output: str | None) -> None:
    """The known models: parameters, active parameters, the state that a token adds (in bf16), the longest context."""
    from .. import catalog
    from ..checkpoints.sources import architecture
    from ..cost import cost

    found = [(entry, cost(architecture(entry.id))) for entry in catalog.entries()]
    if as_json:
        return emit_json([_record(entry, c) for entry, c in found], output)
    return emit(_table(found), output)


def _record(entry: Entry, c: Cost) -> dict[str, Any]:
    told = ("id", "name", "family", "repository", "released", "license", "predecessor", "published", "unconfirmed")
    record = {key: getattr(entry, key) for key in (*told, "unconfirmed_keys", "sources")}
    figures = c.to_dict()
    state = {"context": c.state.context, "bytes_per_token": c.state.bytes_per_token, "bytes": c.state.bytes}
    return record | {"parameters": figures["parameters"], "state": state}


def _table(found: list[tuple[Entry, Cost]]) -> str:
    from ..cost.quantity import count, number, size
    from ..views.table import table

    rows = [["name", "family", "released", "parameters", "active", "state/token", "context"]]
    for entry, c in found:
        p = c.parameters
        active = "" if p.active == p.total else count(p.active)
        mark = " *" if entry.unconfirmed else ""
        figures = [count(p.total), active, size(c.state.bytes_per_token), number(c.state.context)]
        rows.append([entry.id + mark, entry.family, entry.released or "", *figures])
    return table(rows, left=2) + "\n\n* something is not confirmed: `vitruvius show NAME` says what"
