"""`vitruvius export`."""

from __future__ import annotations

import click

from . import options, running


@click.command()
@click.argument("model")
@click.option("-o", "--output", type=click.Path(file_okay=False), required=True, metavar="DIR", help="The folder.")
@click.option(
    "--dtype",
    default="checkpoint",
    show_default=True,
    help="Of the weights: as the checkpoint has them, float32, bfloat16 or float16.",
)
@click.option("--max-shard-size", default="5GB", show_default=True, metavar="SIZE", help="The largest file of weights.")
@options.ignore_key
def command(model: str, output: str, dtype: str, max_shard_size: str, ignore: tuple[str, ...]) -> None:
    """Writes MODEL as a Hugging Face folder that other programs load: weights, config, tokenizer, chat template.

    MODEL is a folder, also one of an edited architecture, a .gguf file, a catalog name whose weights are at hand, or a
    hub id. What is stored in a few bits is unpacked. Beside an edited architecture lies the code by which transformers
    runs it, and where its layers are plain attention, vLLM and SGLang too; what runs it is said at the end.
    """
    running.require_torch()
    with running.waiting("Starting PyTorch"):
        from ..models import load
        from ..saving import runs, save
    loaded = load(model, dtype, ignore=ignore, progress=running.shown)
    with running.waiting("Writing"):
        left_out = save(loaded, output, max_shard_size)
    if left_out:
        more = ", …" if len(left_out) > 3 else ""
        click.echo(f"left out, as they are no longer at hand: {', '.join(left_out[:3])}{more}", err=True)
    click.echo(runs(loaded), err=True)
    click.echo(output)
