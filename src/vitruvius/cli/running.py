"""What the verbs that run a model share: options, loading with a progress display, and what is said at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import InputError

if TYPE_CHECKING:
    from ..checkpoints.tokenizer import Tokenizer
    from ..inference.streaming import Answer
    from ..nn import Decoder

F = TypeVar("F", bound=Callable[..., Any])

dtype = click.option(
    "--dtype", default="float32", show_default=True, help="Of the weights: float32, bfloat16, float16."
)
device = click.option(
    "--device", default="cpu", show_default=True, help="Where the model runs: cpu, cuda, cuda:1, mps."
)
engine = click.option(
    "--engine",
    type=click.Choice(["auto", "torch"]),
    default="auto",
    expose_value=False,
    help="What runs the model: there is PyTorch only, so far.",
)
ignore_key = click.option(
    "--ignore-key", "ignore", multiple=True, metavar="NAME", help="A key or tensor that a fine-tune adds, to leave out."
)
seed = click.option("--seed", type=click.IntRange(0), help="Of the random numbers; without it each run is different.")
system = click.option("--system", metavar="TEXT", help="The system message.")
stop = click.option("--stop", multiple=True, metavar="TEXT", help="Ends the answer where this text would begin.")

_SAMPLING = (
    click.option("--temperature", type=float, default=0.0, show_default=True, help="0 takes the most probable token."),
    click.option("--top-k", type=int, help="Choose among the K most probable tokens."),
    click.option("--top-p", type=float, help="Choose among the most probable tokens that together reach P."),
    click.option("--min-p", type=float, help="Leave out tokens less likely than P times the most probable one."),
    click.option("--repetition-penalty", type=float, default=1.0, show_default=True, help="Above 1: repeat less."),
)


def sampling(command: F) -> F:
    """The options that `Sampler` takes, except the seed."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(_SAMPLING), command)


def max_new_tokens(default: int) -> Callable[[F], F]:
    """The option that limits an answer."""
    return click.option("--max-new-tokens", type=click.IntRange(1), default=default, show_default=True, metavar="N")


def load(source: str, dtype: str, device: str, ignore: Iterable[str]) -> tuple[Decoder, Tokenizer]:
    """A model with its tokenizer, which is looked for first: that takes a moment, and the model may take minutes."""
    require_torch()
    from ..checkpoints.tokenizer import tokenizer

    found = tokenizer(source)
    with waiting("Starting PyTorch"):
        import torch

        from ..models import load
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # AssertionError: not compiled with CUDA
        raise InputError(f"the device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
    return load(source, dtype, device, ignore=tuple(ignore), progress=shown), found


def require_torch() -> None:
    """Raises InputError where PyTorch is not installed."""
    if find_spec("torch") is None:
        raise InputError("running a model needs PyTorch, which is not installed: pip install 'vitruvius[torch]'")


def shown(items: Iterable[Any], count: int) -> Iterable[Any]:
    """The tensors of a checkpoint, with a bar on the terminal."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, "Loading", count, console=Console(stderr=True), transient=True)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Shows on the terminal what is being waited for."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def printed(answer: Answer) -> Iterator[str]:
    """The pieces of an answer, each printed when it comes."""
    pieces = iter(answer)
    with waiting("Reading the prompt"):
        piece = next(pieces, None)
    while piece is not None:
        click.echo(piece, nl=False)  # which flushes
        yield piece
        piece = next(pieces, None)


def speed(answer: Answer, context: int) -> str:
    """How fast it went, in one line, and why it ended where that is not plain."""
    t = answer.timing
    rate = "" if t.decode_rate is None else f" at {t.decode_rate:.1f} tokens/s"
    reused = f", {t.reused} of them remembered" if t.reused else ""
    line = f"{t.tokens} tokens{rate}; the first after {t.first:.2f} s (prompt of {t.prompt} tokens{reused})"
    ended = {"length": "; stopped at --max-new-tokens", "context": f"; stopped at the context of {context:,} tokens"}
    return line + ended.get(answer.finish or "", "")
