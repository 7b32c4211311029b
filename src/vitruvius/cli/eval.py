"""`vitruvius eval MODEL`."""

from __future__ import annotations

import lzma
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any

import click

from . import options, running
from .output import emit, emit_json
from .tokens import read

if TYPE_CHECKING:
    from ..inference.perplexity import Perplexity

OURS = "plays and sonnets of Shakespeare, as shipped"
LIMIT = 4096  # tokens of our own text, where nothing is said: less than a minute for a small model


@click.command()
@options.model
@click.option(
    "--text", "file", metavar="FILE", help="A text in UTF-8; - reads stdin. Default: the text that is shipped."
)
@click.option("--context", type=options.Tokens(), help="Tokens of a window. Default: 2,048, or the model's own.")
@click.option("--stride", type=options.Tokens(), help="How much further each window begins. Default: half of it.")
@click.option("--limit", type=options.Tokens(), help="Reads so many tokens at most. Default: all of FILE.")
@running.executor
@options.as_json
@options.output
def command(
    model: str,
    file: str | None,
    context: int | None,
    stride: int | None,
    limit: int | None,
    how: running.How,
    as_json: bool,
    output: str | None,
) -> None:
    """How well MODEL predicts a text: its perplexity by a sliding window, and bits per byte.

    Each window sees the tokens before those that it scores, as many as fit; every token but the first is scored once.
    Perplexities compare only between models of one tokenizer, bits per byte between all.
    """
    from ..inference.perplexity import perplexity

    text = shipped() if file is None else read(file)
    runner, tokenizer = running.load(model, how)
    ids = tokenizer.encode(text)
    most = limit or (LIMIT if file is None else len(ids))
    if len(ids) > most:
        ids = ids[:most]
        text = tokenizer.decode(ids, skip_special_tokens=True)  # a BOS token is no text
    window = context or min(2048, runner.spec.context)
    with scoring(len(ids) - 1) as progress:
        found = perplexity(runner, ids, len(text.encode()), window, stride, progress)
    name = OURS if file is None else file
    if as_json:
        return emit_json(record(model, name, found), output)
    return emit(shown(model, name, found), output)


def shipped() -> str:
    """The text that the package ships, which `vitruvius train` reads too."""
    packed = resources.files("vitruvius").joinpath("training", "corpus", "shakespeare.txt.xz")
    return lzma.decompress(packed.read_bytes()).decode()


@contextmanager
def scoring(count: int) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal; gives what is told how many tokens are scored."""
    if not sys.stderr.isatty():
        yield lambda scored: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Scoring", total=count)
        yield lambda scored: progress.update(task, completed=scored)


def record(model: str, text: str, found: Perplexity) -> dict[str, Any]:
    """What --json prints."""
    return {
        "model": model,
        "text": text,
        "tokens": found.tokens,
        "scored": found.scored,
        "bytes": found.nbytes,
        "context": found.context,
        "stride": found.stride,
        "loss": found.loss,
        "perplexity": found.perplexity,
        "bits_per_byte": found.bits_per_byte,
    }


def shown(model: str, text: str, found: Perplexity) -> str:
    """The same as text."""
    return (
        f"{model}: perplexity {found.perplexity:.4f}\n\n"
        f"loss           {found.loss:.6f} nats per token\n"
        f"bits per byte  {found.bits_per_byte:.6f}\n"
        f"text           {text}: {found.tokens:,} tokens, {found.nbytes:,} bytes, {found.scored:,} scored\n"
        f"windows        {found.context:,} tokens, each {found.stride:,} further"
    )
