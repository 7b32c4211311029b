"""`vitruvius bench MODEL`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from . import options, running
from .output import emit, emit_json

if TYPE_CHECKING:
    from ..inference.bench import Report
    from ..views.plot import Chart


def numbers(context: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
    """ "512,2k" -> (512, 2048)."""
    return tuple(options.Tokens().convert(part, option, context) for part in text.split(","))


@click.command()
@options.model
@click.option(
    "--prompt-tokens", default="512,2048", show_default=True, callback=numbers, help="Prompts that are read at once."
)
@click.option(
    "--contexts", default="128,2048", show_default=True, callback=numbers, help="Tokens read before decoding is timed."
)
@click.option("--new-tokens", type=click.IntRange(1), default=128, show_default=True, help="Then decoded one by one.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Also so many sequences at once.")
@click.option("--turns", type=click.IntRange(1), default=7, show_default=True, help="Of each engine, in turn.")
@running.engine
@running.weights
@running.threads
@click.option(
    "--against",
    help="Engines to compare with: torch, transformers, llama.cpp, or none. Default: those installed that can read "
    "these weights as precisely.",
)
@options.ignore_key
@options.as_json
@options.output
@click.option("--chart", type=click.Path(dir_okay=False, writable=True), help="Draw it too, as .svg or .png.")
def command(
    model: str,
    prompt_tokens: tuple[int, ...],
    contexts: tuple[int, ...],
    new_tokens: int,
    batch: int,
    turns: int,
    engine: str,
    weights: str | None,
    threads: int | None,
    against: str | None,
    ignore: tuple[str, ...],
    as_json: bool,
    output: str | None,
    chart: str | None,
) -> None:
    """The speed of MODEL beside other engines that hold the same weights, in turn within one run: medians, and their
    ratios.

    Sizes and repeats are small enough for a minute or two with a small model; --new-tokens and --turns make it shorter.
    llama.cpp (pip install llama-cpp-python) reads GGUF files only, and quantises one itself to what --weights asks for.
    """
    from ..inference.bench import Lengths, bench

    peers = None if against is None else [name for name in against.split(",") if name != "none"]
    lengths = Lengths(prompt_tokens, contexts, new_tokens, batch)
    report = bench(model, engine, weights or "as-is", lengths, turns, threads, peers, ignore, _teller())
    if chart:
        drawn(report).save(chart)
    return emit_json(report.to_dict(), output) if as_json else emit(told(report), output)


def _teller() -> Callable[[str], None]:
    """Shows what is being done on a terminal, in one line that is overwritten."""
    shown = sys.stderr.isatty()
    return lambda what: click.echo(f"\r\x1b[K{what}", nl=False, err=True) if shown else None


def drawn(r: Report) -> Chart:
    """The report as a chart."""
    from ..views.speed import speeds

    bars = [(speed.measure.title, speed.engine, speed.rate, speed.ratio) for speed in r.speeds]
    subtitle = f"weights {r.weights}; {r.processor}, {r.threads} threads; {r.date}"
    return speeds(f"{r.model}: tokens per second", subtitle, bars)


def told(r: Report) -> str:
    """The report as a table, with what it depends on."""
    from ..views.table import table

    measures = list(dict.fromkeys(speed.measure for speed in r.speeds))
    found = {(speed.engine, speed.measure): speed for speed in r.speeds}
    names = list(r.same_tokens)
    rows = [["tokens/s", *(measure.title for measure in measures), "same tokens"]]
    for name in names:
        cells = []
        for measure in measures:
            speed = found.get((name, measure))
            ratio = f" ({speed.ratio:.2f})" if speed and name != names[0] else ""
            share = f" [{speed.bandwidth:.0%}]" if speed and speed.bandwidth else ""
            cells.append(f"{speed.rate:,.1f}{ratio}{share}" if speed else "")
        rows.append([name, *cells, "yes" if r.same_tokens[name] else "no"])
    what = (
        f"{r.model}, weights {r.weights}: tokens/s, medians of {r.turns} turns; decoding is {r.new} tokens one by one"
    )
    legend = "(…) how many times as fast ours is, in the same turns"
    if r.read_bandwidth:
        legend += f"; […] share of the read bandwidth, {r.read_bandwidth / 1e9:.1f} GB/s"
    versions = ", ".join(f"{name} {version}" for name, version in r.versions.items())
    where = f"{r.processor}, {r.threads} threads of {r.cores} cores, load {r.load:.1f} before; {r.date}"
    return f"{what}\n\n{table(rows, left=1)}\n\n{legend}\n{where}\n{versions}"
