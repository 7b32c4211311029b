"""`vitruvius bench MODEL`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from . import options, running
from .output import emit, emit_json

if TYPE_CHECKING:
    from ..inference.bench import Report


@click.command()
@options.model
@click.option("--prompt-tokens", type=click.IntRange(1), default=512, show_default=True, help="Read at once.")
@click.option("--new-tokens", type=click.IntRange(1), default=64, show_default=True, help="Then decoded one by one.")
@click.option("--turns", type=click.IntRange(1), default=5, show_default=True, help="Of each engine, in turn.")
@click.option("--threads", type=click.IntRange(1), help="For PyTorch. Default: its own choice.")
@running.dtype
@running.ignore_key
@options.as_json
@options.output
def command(
    model: str,
    prompt_tokens: int,
    new_tokens: int,
    turns: int,
    threads: int | None,
    dtype: str,
    ignore: tuple[str, ...],
    as_json: bool,
    output: str | None,
) -> None:
    """The speed of MODEL at batch 1 against transformers, with the same weights, in turn within one run: medians, and
    their ratios."""
    running.require_torch()
    from ..inference.bench import bench

    def say(what: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{what}", nl=False, err=True)

    report = bench(model, prompt_tokens, new_tokens, turns, dtype, threads, ignore, say)
    say("")
    return emit_json(report.to_dict(), output) if as_json else emit(told(report), output)


def told(r: Report) -> str:
    """The report as a table, with what it depends on."""
    from ..views.table import table

    rows = [["tokens/s", "prefill", "decode", "ours ÷ it", "", "same tokens"], ["", "", "", "prefill", "decode", ""]]
    rows += [
        [
            s.engine,
            f"{s.prefill:.0f}",
            f"{s.decode:.1f}",
            f"{s.ratio_prefill:.2f}",
            f"{s.ratio_decode:.2f}",
            "yes" if s.same_tokens else "no",
        ]
        for s in r.speeds
    ]
    versions = ", ".join(f"{name} {version}" for name, version in r.versions.items())
    what = f"{r.model}, {r.dtype}, batch 1: prefill of {r.prompt} tokens, then {r.new} one by one; {r.turns} turns"
    where = f"{r.processor}, {r.threads} threads of {r.cores} cores, load {r.load:.1f} before; {r.date}"
    return f"{what}\n\n{table(rows, left=1)}\n\n{where}\n{versions}"
