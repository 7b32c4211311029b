"""`vitruvius show MODEL`."""

from __future__ import annotations

from typing import Any

import click

from . import options
from .output import emit, emit_json

MOST_DRAWN = 6  # side by side


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@options.svg
@options.ignore_key
@options.as_json
@options.output
def command(
    models: tuple[str, ...], drawings: tuple[str, ...], ignore: tuple[str, ...], as_json: bool, output: str | None
) -> None:
    """The architecture of MODEL as text: its layers grouped by kind, where norms and residuals are, and its figures
    with their origin. Several models make one poster."""
    from ..checkpoints.sources import architecture
    from ..views.svg import draw, draw_side_by_side

    if drawings and len(models) > MOST_DRAWN:
        raise click.UsageError(f"A drawing shows at most {MOST_DRAWN} models side by side, not {len(models)}")
    archs = [architecture(model, ignore) for model in models]
    for file in drawings:
        (draw(archs[0]) if len(archs) == 1 else draw_side_by_side(archs, ())).save(file)
        click.echo(f"wrote {file}", err=True)
    if as_json:
        found = [_record(model, arch, ignore) for model, arch in zip(models, archs, strict=True)]
        return emit_json(found[0] if len(found) == 1 else found, output)
    texts = [_text(model, arch, ignore) for model, arch in zip(models, archs, strict=True)]
    return emit("\n\n\n".join(texts), output)


def _record(model: str, arch: Any, ignore: tuple[str, ...]) -> dict[str, Any]:
    from ..spec import to_json

    known, found = _known(model), _cost(model, arch, ignore)
    told = {"published": known.published, "unconfirmed": known.unconfirmed, "sources": known.sources} if known else {}
    return {"model": arch.name, "tree": to_json(arch), "cost": found.to_dict()} | told


def _text(model: str, arch: Any, ignore: tuple[str, ...]) -> str:
    from ..views import tree
    from ..views.origins import origins

    known = _known(model)
    return f"{tree(arch)}\n\n{origins(known, _cost(model, arch, ignore))}" if known else tree(arch)


def _known(model: str) -> Any:
    from .. import catalog

    return catalog.entry(model) if model in catalog.names() else None


def _cost(model: str, arch: Any, ignore: tuple[str, ...]) -> Any:
    from ..cost import cost
    from ..sizing import as_stored

    return cost(arch, weights=as_stored(model, arch, ignore))
