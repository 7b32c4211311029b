"""`vitruvius compare A B …`."""

from __future__ import annotations

import click

from . import options
from .output import emit, emit_json

MOST_DRAWN = 6  # side by side


@click.command()
@click.argument("models", nargs=-1, required=True)
@options.context
@options.batch
@options.stored_dtype
@options.svg
@options.as_json
@options.output
@options.ignore_key
def command(
    models: tuple[str, ...],
    context: int | None,
    batch: int,
    dtype: str | None,
    drawings: tuple[str, ...],
    ignore: tuple[str, ...],
    as_json: bool,
    output: str | None,
) -> None:
    """What differs between the first of MODELS and each of the others, nouns first, numbers second, and the costs of
    all side by side. The context is by default the longest that all of them take."""
    from ..checkpoints.sources import architecture
    from ..cost import cost
    from ..sizing import format_of
    from ..views import compare, draw_side_by_side
    from ..views.table import costs_table

    if len(models) < 2:
        raise click.UsageError("Give two models or more")
    if drawings and len(models) > MOST_DRAWN:
        raise click.UsageError(f"A drawing shows at most {MOST_DRAWN} models side by side, not {len(models)}")
    first, *others = archs = [architecture(model, ignore) for model in models]
    formats = [format_of(model, arch, None, dtype, ignore) for model, arch in zip(models, archs, strict=True)]
    dtype = dtype or "bf16"
    context = min(arch.context for arch in archs) if context is None else context
    differences = [
        compare(first, other, context, batch, dtype, (formats[0], own))
        for other, own in zip(others, formats[1:], strict=True)
    ]
    for file in drawings:
        draw_side_by_side(archs, differences).save(file)
        click.echo(f"wrote {file}", err=True)
    if as_json:
        found = [difference.to_dict() for difference in differences]
        return emit_json(found[0] if len(found) == 1 else {"differences": found}, output)
    costs = costs_table(
        [cost(arch, context, batch, dtype, weights=own) for arch, own in zip(archs, formats, strict=True)]
    )
    return emit("\n\n".join([*(difference.changes() for difference in differences), costs]), output)
