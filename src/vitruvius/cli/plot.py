"""`vitruvius plot KIND MODEL …`."""

from __future__ import annotations

from typing import Any

import click

from . import options

KINDS = ("state", "flops", "latency", "throughput", "memory", "parameters", "training", "training-memory")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("models", nargs=-1, required=True)
@click.option(
    "-o", "--output", type=click.Path(), required=True, metavar="FILE", help="FILE.svg, FILE.png or FILE.json."
)
@options.context
@click.option("-b", "--batch", type=click.IntRange(1), help="Sequences at once, in the chart of memory.")
@options.dtype
@options.ignore_key
@click.option("--weights", help="Format of the weights: fp8-block, int4-g128, q4_k_m … Default: the dtype.")
@click.option("--policy", "policies", multiple=True, help="Whose accounting of state: vllm, llama.cpp … Repeatable.")
@click.option("--device", help="h100-sxm, m4-max …; the charts of time and of training need one.")
@click.option("--devices", type=click.IntRange(1), help="How many of them, matrices and heads cut among all.")
@click.option("--tokens", type=options.Count(), help="Of the longest training run: 15T.")
@click.option(
    "--ink",
    type=click.Choice(["light", "dark", "neutral"]),
    default="light",
    show_default=True,
    help="For which ground; neutral is for any, and leaves it transparent.",
)
def command(
    kind: str,
    models: tuple[str, ...],
    output: str,
    policies: tuple[str, ...],
    ink: str,
    ignore: tuple[str, ...],
    **asked: Any,
) -> None:
    """A chart of MODELS as SVG or PNG (with the extra `plot`), or as its Vega-Lite description.

    KIND is state or flops, against the context; latency or throughput, against the batch; memory, with the device's
    limit; parameters, by part; training, hours against tokens; or training-memory.
    """
    from ..checkpoints.sources import architecture
    from ..views.plot import plot

    given = {name: value for name, value in asked.items() if value is not None}
    chart = plot(
        kind, [architecture(model, ignore) for model in models], policies=policies or ("minimum",), ink=ink, **given
    )
    chart.save(output)
    click.echo(f"wrote {output}", err=True)
