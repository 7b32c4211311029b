"""`vitruvius cost MODEL`."""

from __future__ import annotations

import click

from . import options
from .output import emit, emit_json


@click.command()
@options.model
@options.context
@options.batch
@options.dtype
@click.option("--device", help="A device to judge memory and time by (not there yet).")
@options.as_json
@options.output
def command(
    model: str,
    context: int | None,
    batch: int,
    dtype: str,
    device: str | None,
    as_json: bool,
    output: str | None,
) -> None:
    """Parameters, state, FLOPs and memory of MODEL.

    Prefill is BATCH prompts of CONTEXT tokens, the head computed for every token; decoding is one new token of one
    sequence at that position. A multiply-add is 2 FLOPs, scores count visible pairs, k = 1,024. State is the
    architectural minimum: windows keep their window. Multi-token prediction stands apart.
    """
    from ..checkpoints.sources import architecture
    from ..cost import cost
    from ..views.table import cost_table

    arch = architecture(model)
    found = cost(arch, context, batch, dtype, device)
    if as_json:
        return emit_json(found.to_dict(), output)
    text = cost_table(found)
    if found.state.context > arch.context:
        text += f"\n\nnote: {arch.name} is made for {arch.context:,} tokens"
    return emit(text, output)
