"""`vitruvius verify MODEL`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from . import options, running
from .output import emit, emit_json

if TYPE_CHECKING:
    from ..inference.verify import Verdict


@click.command()
@options.model
@click.option("--tokens", type=click.IntRange(2), help="Length of the prompts. Default: past the longest window.")
@click.option("-b", "--batch", type=click.IntRange(1), default=2, show_default=True, help="Prompts at once.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random prompts.")
@options.ignore_key
@options.as_json
@options.output
@click.pass_context
def command(
    ctx: click.Context,
    model: str,
    tokens: int | None,
    batch: int,
    seed: int,
    ignore: tuple[str, ...],
    as_json: bool,
    output: str | None,
) -> None:
    """Whether MODEL gives the same logits as in transformers, in float32, on random prompts: in one pass, and through
    the state one token at a time. Exit status 1 if not, with the first module that differs."""
    running.require_torch()
    with running.waiting("Comparing with transformers"):
        from ..inference.verify import verify

        verdict = verify(model, tokens, batch, seed, ignore)
    if as_json:
        emit_json(asdict(verdict) | {"equal": verdict.equal}, output)
    else:
        emit(told(verdict), output)
    ctx.exit(0 if verdict.equal else 1)


def told(v: Verdict) -> str:
    """The verdict in words."""
    lines = [
        f"{v.model} {'equals' if v.equal else 'DIFFERS FROM'} {v.reference}",
        f"  largest difference of logits  {v.full:.1e} in one pass, {v.cached:.1e} through the state",
        f"  allowed                       {v.tolerance:.1e} (logits up to {v.values:.1f})",
        f"  most probable token           the same at {v.agreed:.1%} of positions",
        f"  prompts                       {v.batch} of {v.tokens} random tokens, float32",
    ]
    if v.difference:
        lines.append(f"  {v.difference}")
    elif not v.equal:
        lines.append("  no module of one pass differs by more than rounding: what differs is the state")
    return "\n".join(lines)
