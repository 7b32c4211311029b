"""`vitruvius show MODEL`."""

from __future__ import annotations

import click

from . import options
from .output import emit, emit_json


@click.command()
@options.model
@options.svg
@options.ignore_key
@options.as_json
@options.output
def command(model: str, svg: str | None, ignore: tuple[str, ...], as_json: bool, output: str | None) -> None:
    """The architecture of MODEL as text: its layers grouped by kind, where norms and residuals are, and its figures
    with their origin."""
    from .. import catalog
    from ..checkpoints.sources import architecture
    from ..cost import cost
    from ..sizing import as_stored
    from ..spec import to_json
    from ..views import draw, tree
    from ..views.origins import origins

    arch = architecture(model, ignore)
    known = catalog.entry(model) if model in catalog.names() else None
    if svg is not None:
        draw(arch).save(svg)
        click.echo(f"wrote {svg}", err=True)
    found = cost(arch, weights=as_stored(model, arch, ignore))
    if as_json:
        told = (
            {"published": known.published, "unconfirmed": known.unconfirmed, "sources": known.sources} if known else {}
        )
        return emit_json({"model": arch.name, "tree": to_json(arch), "cost": found.to_dict()} | told, output)
    return emit(f"{tree(arch)}\n\n{origins(known, found)}" if known else tree(arch), output)
